"""The largest file that an import may be costs neither the web process nor the worker its memory.

Real processes: the file is made while it is sent, and the most that each process ever had resident
is read from the kernel (VmHWM), which misses no moment.
"""

import http.client
import json
from pathlib import Path

import psutil
import pytest
from django.conf import settings

from customers.models import ATTRIBUTES_LIMIT
from tests.chaos.conftest import Process, until, yard
from tests.customers.desk import CSV, JSONL
from tests.people import bearer, tenant_key
from tests.upping import free_ports

pytestmark = pytest.mark.thorough

MOST = settings.SLIPWAY["CUSTOMERS"]["import_bytes"]
GROWTH = 40  # MiB, where the file has a hundred.
PATIENCE = 240.0  # Seconds for one file, on a machine that runs other tests besides.
__all__ = ["yard"]


def csv_row(number: int) -> bytes:
    return f"csv-{number:08},Customer {number:08},{'The usual. ' * 90}\n".encode()


def json_row(number: int) -> bytes:
    """As wide as a customer may be: a chunk of so many rows is forty times one of narrow ones."""
    note = "The usual. " * ((ATTRIBUTES_LIMIT - 100) // 11)
    return json.dumps({"external_id": f"json-{number:08}", "attributes": {"note": note}}).encode()


KINDS = {
    CSV: (b"external_id,name,attributes.note\n", csv_row),
    JSONL: (b"\n", lambda number: json_row(number) + b"\n"),
}


class Memory:
    """What the processes have resident, since when it was begun to watch."""

    def __init__(self, process: Process) -> None:
        first = psutil.Process(process.pid)
        self.pids = [first.pid, *(child.pid for child in first.children(recursive=True))]
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # The peak is what there is now.
        self.before = self._all("VmRSS")

    def growth(self) -> float:
        """The most that there was more than at first, in MiB."""
        return max(self._one(pid, "VmHWM") - self.before[pid] for pid in self.pids)

    def _all(self, name: str) -> dict[int, float]:
        return {pid: self._one(pid, name) for pid in self.pids}

    def _one(self, pid: int, name: str) -> float:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


class Client:
    """The imports of one tenant, through a real web process."""

    def __init__(self, port: int, tenant) -> None:
        self.port, self.headers = port, bearer(tenant_key(tenant))

    def send(self, kind: str, rows: int) -> str:
        """Post a file that is made meanwhile; its import."""
        first, row = KINDS[kind]
        length = len(first) + rows * len(row(0))
        assert length <= MOST
        body = (first if number < 0 else row(number) for number in range(-1, rows))
        headers = {**self.headers, "Content-Type": kind, "Content-Length": str(length)}
        status, said = self._ask("POST", "/v1/customers/imports", body, headers)
        assert (status, said.get("bytes")) == (202, length), said
        return said["id"]

    def finished(self, import_id: str) -> dict:
        def look():
            said = self._ask("GET", f"/v1/customers/imports/{import_id}", None, self.headers)[1]
            return said if said["status"] != "running" and said["finished_at"] else None

        return until(look, PATIENCE, "the import's end")

    def is_there(self) -> bool:
        try:
            return self._ask("GET", "/healthz", None, {})[0] == 200
        except OSError:
            return False

    def _ask(self, method, path, body, headers) -> tuple[int, dict]:
        asking = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            asking.request(method, path, body, headers)
            answer = asking.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text[:1] == b"{" else {}
        finally:
            asking.close()


@pytest.fixture
def web(yard, tenant) -> tuple[Client, Process]:
    """The Procfile's `web`, serving this test's tenant."""
    port = free_ports()
    process = yard.start(
        *("-m", "granian", "--interface", "wsgi", "--port", str(port), "--workers", "1"),
        *("--blocking-threads", "4", "--no-ws", "--log-level", "warning"),
        "config.wsgi:application",
        wait=False,
    )
    client = Client(port, tenant)
    until(client.is_there, 30, f"the web process\n{process.said()}")
    return client, process


@pytest.mark.parametrize("kind", [CSV, JSONL])
def test_a_file_of_a_hundred_megabytes_is_never_in_memory(kind, yard, web):
    client, served = web
    worker = yard.worker()
    client.finished(client.send(kind, 10))  # What is loaded at first is none of the file.
    serving, working = Memory(served), Memory(worker)

    rows = (MOST - 1000) // len(KINDS[kind][1](0))
    import_id = client.send(kind, rows)
    assert serving.growth() < GROWTH
    said = client.finished(import_id)
    assert (said["read"], said["created"] + said["unchanged"] + said["updated"]) == (rows, rows)
    grown = working.growth()
    assert grown < GROWTH, grown

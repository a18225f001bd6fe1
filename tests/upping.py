"""`make up` as a process of a test's own, and what is left of it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from config.processes import MARK

ROOT = Path(__file__).parents[1]
ALL_WELL = dict.fromkeys(
    ("database", "migrations", "partitions", "worker", "restored", "redis"), "ok"
)
PATIENCE = 120.0  # Seconds, on a machine that runs other tests besides.


class Up:
    """A running `up`, and what it said."""

    def __init__(self, state: Path, port: int, **variables: str) -> None:
        self.state, self.port = state, port
        kept = ("PATH", "HOME", "LANG")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        environment |= {"SLIPWAY_STATE_DIR": str(state), "PORT": str(port), **variables}
        self.out = (state.parent / f"{state.name}.out").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "config.up"],
            cwd=ROOT,
            env=environment,
            stdout=self.out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def said(self) -> str:
        return Path(self.out.name).read_text()

    def has_said(self, text: str) -> bool:
        return text in self.said()

    def find(self, command: str, *, besides: int = 0) -> int:
        """The first process that runs the command; 0 when none does."""
        found = (pid for pid, line in self.ours().items() if command in line and pid != besides)
        return min(found, default=0)

    def wait_ready(self) -> str:
        wait(lambda: "\nready" in self.said() or self.process.poll() is not None)
        assert "\nready" in self.said(), self.said()
        return self.said()

    def wait_ended(self) -> int:
        return self.process.wait(PATIENCE)

    def get(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def is_well(self) -> bool:
        try:
            return self.get("/readyz")["checks"] == ALL_WELL
        except OSError:
            return False

    def ours(self) -> dict[int, str]:
        """Its processes, servers and all: pid and command line."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):
                found[child.pid] = " ".join(child.cmdline())
        return found


def wait(is_so: Callable[[], object], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def alive(pids) -> list[str]:
    found = []
    for pid in pids:
        try:
            process = psutil.Process(pid)
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.NoSuchProcess:
            pass
    return found


def left_behind(state: Path) -> list[int]:
    """Every process of the machine that bears the mark of this state directory."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(MARK) == str(state)
            if marked and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.Error, OSError):
            pass
    return found


def free_ports() -> int:
    """A free port whose two successors are free too."""
    while True:
        with socket.socket() as first, socket.socket() as second, socket.socket() as third:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
                third.bind(("127.0.0.1", port + 2))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture
def up(tmp_path):
    """Starts `up`s on one state directory; ends what a failed test leaves."""
    started: list[Up] = []
    port = free_ports()

    def start(**variables: str) -> Up:
        started.append(Up(tmp_path / "state", port, **variables))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            os.kill(one.process.pid, signal.SIGKILL)
            one.process.wait()
    wait(lambda: not left_behind(tmp_path / "state") or end(left_behind(tmp_path / "state")))


def end(pids) -> bool:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return False

"""`make up`, really: one command, everything runs; Ctrl-C, and nothing does."""

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
from functools import partial
from pathlib import Path

import psutil
import pytest

from config.processes import MARK, procfile

ROOT = Path(__file__).parents[2]
ALL_WELL = {"database": "ok", "migrations": "ok", "worker": "ok", "redis": "ok"}
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
    """A free port whose successor is free too."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
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


def test_it_starts_all_of_it_keeps_it_running_and_ctrl_c_stops_all_of_it(up):
    running = up()
    said = running.wait_ready()
    assert running.get("/readyz")["checks"] == ALL_WELL
    assert said.splitlines()[-1].startswith("ready")
    assert "curl" in said
    assert "password" in said
    key = running.state / "platform-key"
    assert key.read_text().strip() in said
    assert key.stat().st_mode & 0o777 == 0o600
    logs = {log.stem for log in (running.state / "logs").iterdir()}
    assert logs == set(procfile(ROOT / "Procfile"))

    for name, command in (("web", "wsgi"), ("worker", "celery --quiet --app config worker")):
        victim = running.find(command)
        os.kill(victim, signal.SIGKILL)
        wait(partial(running.has_said, f"{name} was ended by SIGKILL; it starts again in 0.5 s"))
        wait(partial(running.find, command, besides=victim))
    wait(running.is_well)

    pids = running.ours()
    os.kill(running.process.pid, signal.SIGINT)
    assert running.wait_ended() == 0
    wait(lambda: not alive(pids), 10)
    assert left_behind(running.state) == []


def test_what_a_killed_run_left_is_cleared_away_by_the_next_and_the_data_kept(up):
    killed = up()
    killed.wait_ready()
    pids = killed.ours()
    # Frozen, it cannot follow the watchdog's signal: the next start must find it.
    frozen = killed.find("config beat")
    os.kill(frozen, signal.SIGSTOP)
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.wait_ended()

    second = up()
    said = second.wait_ready()
    assert f"Ending process {frozen}" in said
    assert not alive(pids)
    assert "password" not in said  # The account was there, with all other data.
    assert (second.state / "platform-key").read_text().strip() in killed.said()
    os.kill(second.process.pid, signal.SIGTERM)
    assert second.wait_ended() == 0


def test_a_second_one_on_the_same_directory_is_refused(up):
    first = up()
    wait(lambda: (first.state / "up.lock").exists() and (first.state / "up.lock").read_text())
    second = Up(first.state, free_ports())
    assert second.wait_ended() == 1
    assert f"already runs on {first.state} (process {first.process.pid})" in second.said()
    assert first.process.poll() is None


@pytest.mark.parametrize("which", ["PORT", "STREAM_PORT"])
def test_a_port_that_is_taken_is_named_with_the_way_out(up, tmp_path, which):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = up(**{which: str(port)})
        assert refused.wait_ended() == 1
    assert f"port {port} is not free" in refused.said()
    assert f"{which}={port + 10} make up" in refused.said()
    assert not (tmp_path / "state" / "postgres").exists()


def test_a_bad_variable_is_refused_before_anything_starts(up, tmp_path):
    refused = up(LOG_LEVEL="LOUD")
    assert refused.wait_ended() == 1
    assert "Slipway cannot start: LOG_LEVEL is 'LOUD'" in refused.said()
    assert "Traceback" not in refused.said()

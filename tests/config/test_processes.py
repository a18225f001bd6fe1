"""The supervisor, on processes that misbehave."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from config import processes
from config.processes import Supervisor, procfile


@pytest.fixture
def supervise(tmp_path):
    """Runs commands until `probe` has the supervisor stopped; gives what was said."""

    def run(commands: dict[str, str], probe, *, grace: float = 5.0) -> list[str]:
        said: list[str] = []
        supervisor = Supervisor(
            commands=commands,
            environment=dict(os.environ),
            directory=tmp_path,
            logs=tmp_path,
            grace=grace,
            say=said.append,
        )

        deadline = time.monotonic() + 30

        def until() -> bool:
            if probe(said) or time.monotonic() > deadline:
                os.kill(os.getpid(), signal.SIGTERM)
            return False

        assert threading.current_thread() is threading.main_thread()
        supervisor.run(probe=until)
        return said

    return run


def test_it_starts_again_what_dies_later_and_later(supervise, monkeypatch):
    monkeypatch.setattr(processes, "FIRST_DELAY", 0.05)
    said = supervise({"web": "sh -c 'exit 3'"}, lambda said: len(said) >= 3)
    assert [line.split(" (")[0] for line in said[:3]] == [
        "web ended with code 3; it starts again in 0.5 s",
        "web ended with code 3; it starts again in 1 s",
        "web ended with code 3; it starts again in 2 s",
    ]


def test_a_stop_waits_for_who_finishes_what_it_has_begun(supervise, tmp_path):
    finishing = "trap 'sleep 1; touch finished; exit 0' TERM; touch up; while :; do sleep 0.1; done"
    (tmp_path / "slow.sh").write_text(finishing)
    said = supervise({"worker": "sh slow.sh"}, lambda said: (tmp_path / "up").exists())
    assert (tmp_path / "finished").exists()
    assert said == []


def test_who_does_not_end_within_the_grace_is_killed(supervise, tmp_path):
    (tmp_path / "deaf.sh").write_text("trap '' TERM; touch up; while :; do sleep 0.1; done")
    said = supervise({"worker": "sh deaf.sh"}, lambda said: (tmp_path / "up").exists(), grace=0.5)
    assert said == ["worker is ended with SIGKILL."]


def test_a_dead_childs_own_children_go_too(supervise, tmp_path):
    (tmp_path / "parent.sh").write_text("sleep 600 & echo $! > child; exit 1")

    def is_buried(said) -> bool:
        return bool(said)

    supervise({"web": "sh parent.sh"}, is_buried)
    orphan = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while Path(f"/proc/{orphan}").exists() and "Z" not in Path(f"/proc/{orphan}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_procfile_has_the_processes_of_the_design():
    lines = procfile(Path(__file__).parents[2] / "Procfile")
    assert list(lines) == ["web", "stream", "worker", "beat"]
    assert all(lines.values())

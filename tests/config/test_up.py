"""`make up`, really: one command, everything runs; Ctrl-C, and nothing does."""

import os
import signal
import socket
from functools import partial

import pytest

from config.processes import procfile
from tests.upping import ALL_WELL, ROOT, Up, alive, free_ports, left_behind, up, wait

__all__ = ["up"]  # A fixture.


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
    assert logs == {*procfile(ROOT / "Procfile"), "sandbox"}

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


@pytest.mark.thorough
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


@pytest.mark.parametrize("which", ["PORT", "STREAM_PORT", "SANDBOX_PORT"])
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

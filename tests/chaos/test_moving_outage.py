"""A tenant that moves from home to home under writes, while Postgres itself is killed.

Who writes does not know what became of a request whose answer was lost, and asks again until there
is one. So the ledger is exact here too: afterwards the tenant's rows are those of the ledger.
"""

import time
from contextlib import closing

import psycopg
import pytest
import requests

from tests.chaos import test_moving as moving
from tests.chaos.conftest import LONG, until
from tests.chaos.test_moving import PATIENCE, Scene, Writer, assert_same, hold, staged, writing

__all__ = ["staged"]  # A fixture.
ROUNDS = [("pro", ("copy", "copy", "switch")), ("free", ("copy", "switch", "clear"))]
SHORT_ROUNDS = [("pro", ("copy", "switch"))]


class Patient(Writer):
    """Asks again what got no answer, and takes "it is so already" for one."""

    def ask(self, method: str, path: str, body) -> dict:
        with self.ledger.lock:
            self.ledger.offered += 1
        asked_before, ends_at = False, time.monotonic() + PATIENCE
        while time.monotonic() < ends_at:
            try:
                answer = self.session.request(method, self.url + path, json=body, timeout=30)
            except requests.RequestException:
                answer = None
            if answer is not None and answer.status_code < 500:
                said = self.told(method, body, answer, asked_before)
                with self.ledger.lock:
                    self.ledger.acknowledged += 1
                return said
            asked_before = True
            time.sleep(0.2)
        raise AssertionError(f"no answer to {method} {path}")

    def told(self, method: str, body, answer: requests.Response, asked_before: bool) -> dict:
        if asked_before and method == "POST" and answer.status_code == 409:
            query = {"external_id": body["external_id"]}
            [there] = self.session.get(self.url, params=query, timeout=30).json()["data"]
            return there
        if asked_before and method == "DELETE" and answer.status_code == 404:
            return {}
        assert answer.ok, f"{method}: {answer.status_code} {answer.text[:300]}"
        return answer.json() if answer.content else {}


def kill_in(scene: Scene, phase: str) -> None:
    """Kill Postgres while the move is in this phase, and start it again."""
    url, ends_at = scene.yard.environment["OPERATOR_DATABASE_URL"], time.monotonic() + PATIENCE
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        while (at := hold(connection, scene.tenant)) != phase:
            assert at != "done", f"{phase} was missed: {scene.told()}"
            assert time.monotonic() < ends_at, f"not at {phase}: {scene.told()}"
            time.sleep(0.005)
        if phase == "copy":  # In the middle of it, and of catching up with those who write.
            connection.execute("rollback")
            done = rows_done(scene)
            until(lambda: rows_done(scene) != done, PATIENCE, "a chunk")
            assert scene.phase() == "copy"
        scene.postgres.kill()
    scene.postgres.start()


def rows_done(scene: Scene) -> int:
    return scene.ask("select rows_done from lifecycle_planmove order by id desc limit 1")


def arrive(scene: Scene) -> None:
    until(lambda: scene.phase() == "done", PATIENCE, f"its end: {scene.told()}")


@pytest.mark.thorough
def test_nothing_is_lost_when_postgres_is_killed_in_mid_move(staged, monkeypatch, capsys):
    scene, ledger = staged
    monkeypatch.setattr(moving, "Writer", Patient)
    scene.start_mover()
    rounds = ROUNDS if LONG else SHORT_ROUNDS
    with writing(scene, ledger):
        for plan, phases in rounds:
            scene.begin(plan)
            for phase in phases:
                kill_in(scene, phase)
            arrive(scene)
    assert ledger.odd == []
    assert ledger.acknowledged == ledger.offered
    home = "pool" if rounds[-1][0] == "free" else f"t_{scene.tenant}"
    assert_same(scene, ledger, schema=home)
    if home != "pool":
        left = "select count(*) from pool.customers_customer where tenant_id = %s"
        assert scene.ask(left, scene.tenant) == 0
    assert scene.ask("select count(*) from pg_trigger where tgname like 'slipway_moving%%'") == 0
    assert scene.ask("select count(*) from lifecycle_change") == 0
    with capsys.disabled():
        print(f"\n{sum(len(phases) for _, phases in rounds)} kills, {ledger.offered} writes")

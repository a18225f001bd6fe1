"""A whole restore: dump, work goes on, restore. Drainers wait, and nobody is written to twice.

A sandbox of its own process is the witness, as in test_campaigns: its ledger goes back in no time.
"""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from config.embedded.postgres import _binary
from tests.chaos.conftest import until
from tests.chaos.test_campaigns import DATABASE, SENDER, Scene, scene
from tests.conftest import ROOT

__all__ = ["scene"]  # A fixture.
MESSAGES = 300
BACKED_UP, GONE_ON = 60, 140  # Messages that were accepted by then.
OTHER = "slipway_restored"


def settle(scene: Scene) -> str:
    """A campaign at a provider that would send everything as often as it is asked."""
    latency = {"kind": "uniform", "least": 0.05, "most": 0.15}
    scene.sandbox.set(SENDER, seed="r", latency=latency, idempotent=False)
    wish = {"url": scene.sandbox.url, "senders": {SENDER: [MESSAGES], "other": []}}
    scene.hand = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.mailing", json.dumps(wish)],
        cwd=ROOT, env=scene.yard.environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    (campaign,) = json.loads(scene.hand.stdout.readline())
    # Slowly enough that something is left to be done at each turn of the story.
    scene.ask("update campaigns_provideraccount set max_in_flight = 4")
    return campaign


def manage(scene: Scene, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT, env=scene.yard.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout


def tool(scene: Scene, name: str, *arguments: str) -> None:
    url = scene.postgres.superuser_conninfo(DATABASE if name == "pg_dump" else OTHER)
    subprocess.run([_binary(name), f"--dbname={url}", *arguments], check=True)


def as_superuser(scene: Scene, *statements: str) -> None:
    url = scene.postgres.superuser_conninfo()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def accepted(scene: Scene) -> int:
    return scene.sandbox.ledger(SENDER)["accepted"]


def back_up(scene: Scene, file: Path) -> datetime:
    """The moment that it shows: nothing in it was made later."""
    tool(scene, "pg_dump", "--format=custom", f"--file={file}")
    return datetime.now(UTC)


def restore(scene: Scene, file: Path) -> None:
    """As docs/operations.md says: beside the old one, and then in its place."""
    as_superuser(scene, f"create database {OTHER} owner slipway_owner template template0")
    as_superuser(scene, f"revoke temporary on database {OTHER} from public")
    tool(scene, "pg_restore", "--exit-on-error", str(file))
    as_superuser(
        scene,
        f"alter database {DATABASE} allow_connections false",
        f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{DATABASE}'",
        f"alter database {DATABASE} rename to slipway_before",
        f"alter database {OTHER} rename to {DATABASE}",
    )


@pytest.mark.parametrize("forgotten", [False, True], ids=["redis remembers", "redis is flushed"])
def test_after_a_restore_drainers_wait_and_nobody_is_written_to_twice(scene, tmp_path, forgotten):
    survivor, victim = (scene.yard.drain(wait=False) for _ in range(2))
    campaign = settle(scene)
    scene.do("resume", campaign)
    until(lambda: accepted(scene) >= BACKED_UP, 60, survivor.said())
    since = back_up(scene, tmp_path / "dump")
    until(lambda: accepted(scene) >= GONE_ON, 60, survivor.said())
    victim.kill()
    if forgotten:
        scene.flush_valkey()
    restore(scene, tmp_path / "dump")

    held = "select held_since is not null from jobs_gate"
    scene.yard.drain(wait=False)  # As a supervisor does when one has ended.
    try:
        until(lambda: scene.ask(held) == [(True,)], 60)
    except AssertionError:
        raise AssertionError(f"{scene.ask('table jobs_gate')} {survivor.said()}") from None
    assert survivor.ends(60) != 0, survivor.said()  # With what it knew of another time.
    until(lambda: scene.ask("select 1 from jobs_drainer where dead_at is null"), 60)
    code, said = manage(scene, "doctor", "--only", "restored")
    assert code == 2
    assert "manage.py restored --since" in said
    before = accepted(scene)
    waiting = scene.ask("select count(*) from campaigns_message where state = 'pending'")
    assert waiting[0][0] > before - BACKED_UP  # There is enough that would be sent again.

    given = ("restored", "--since", since.isoformat(), "--json")
    looked = json.loads(manage(scene, *given, "--dry-run")[1])
    assert looked["held"]
    assert accepted(scene) == before
    code, said = manage(scene, *given, "--reason", "a drill", "--yes")
    assert (code, json.loads(said)["marked"].keys()) == (0, looked["marked"].keys())
    # Or a drainer has closed, meanwhile, what the dead one held: that is unknown by now, too.
    doubted = "select count(*) from campaigns_message where state = 'unknown'"
    assert scene.ask(doubted)[0][0] >= looked["marked"]["messages"]

    going = "select count(*) from campaigns_message where state not in %s"
    ends = "('succeeded', 'dead_letter', 'cancelled', 'unknown')"
    until(lambda: scene.ask(going % ends) == [(0,)], 60, "the end")
    ledger, rows = scene.sandbox.ledger(SENDER), scene.ask(
        "select id::text, state from campaigns_message"
    )  # fmt: skip
    assert ledger["most_of_a_key"] == ledger["most_of_a_phone"] == 1
    sent = {id_ for id_, state in rows if state == "succeeded"}
    unknown = {id_ for id_, state in rows if state == "unknown"}
    assert sent <= set(ledger["by_key"])
    assert set(ledger["by_key"]) - sent <= unknown
    # What is made from now on is done as ever.
    assert manage(scene, "doctor", "--only", "restored")[0] == 0
    job = "insert into jobs_job (id, tenant_id, lane, max_attempts, kind, args) values"
    scene.ask(f"{job} (gen_random_uuid(), 1, 'jobs:1', 3, 'act', '{{\"act\": \"succeed\"}}')")
    until(
        lambda: scene.ask("select 1 from jobs_job where kind = 'act' and state = 'succeeded'"), 30
    )


def test_neither_a_restart_nor_a_crash_that_lost_nothing_shuts_the_gate(scene):
    drainer = scene.yard.drain(wait=False)
    campaign = settle(scene)
    scene.do("resume", campaign)
    for mode, enough in (("fast", 30), ("immediate", 60)):
        until(lambda enough=enough: accepted(scene) >= enough, 60, drainer.said())
        scene.postgres.stop(mode)
        scene.postgres.start()
    until(lambda: accepted(scene) >= 90, 60, drainer.said())
    drainer.send(signal.SIGTERM)
    drainer.ends(30)
    again = scene.yard.drain(wait=False)
    until(lambda: accepted(scene) >= 120, 60, again.said())
    assert scene.ask("select held_since from jobs_gate") == [(None,)]
    assert scene.sandbox.ledger(SENDER)["most_of_a_key"] == 1

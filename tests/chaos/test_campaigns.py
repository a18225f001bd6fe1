"""Campaigns while all that takes part in them is killed: drainers, Valkey, Postgres.

A sandbox of its own process, which nobody kills, is the witness: its ledger says what was accepted.
Whatever happens, nobody is written to twice, what is called sent was accepted, and of what was
accepted and is not called sent it is said that nobody knows.
"""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from config.embedded import Postgres, Valkey
from tests import settings as run
from tests.campaigns.provider import Sandbox
from tests.chaos.conftest import LONG, Process, Yard, until
from tests.conftest import ROOT, child_environment, copy_data, database_environment

COUNTS = (6_000, 4_000) if LONG else (200, 100)  # Messages of each campaign.
DRAINERS = 3 if LONG else 2
DISASTERS = 20 if LONG else 2
PATIENCE = 600 if LONG else 60  # Seconds until all is done.
FROZEN = 25  # Seconds; a drainer that is silent for 15 is declared dead.
SEED = 5
SENDER = "ledger"
# A copy of it would not do: a crash soon after CREATE DATABASE … TEMPLATE spoils unlogged sequences
# (Postgres 18), on which the tenants' contexts rest.
DATABASE = run.TEMPLATE_NAME

# What goes wrong with a try. With the first four nobody can tell whether it was accepted.
AMBIGUOUS = {"accept_500": 0.02, "error_500": 0.02, "html": 0.01, "accept_reset": 0.02}
FAULTS = AMBIGUOUS | {"unavailable": 0.03, "too_many_until": 0.002, "refused": 0.02}


@dataclass
class Scene:
    """The servers and processes of a test, and how each of them meets its end."""

    postgres: Postgres
    valkey: Valkey
    sandbox: Sandbox
    yard: Yard
    drainers: list[Process] = field(default_factory=list)
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))
    in_flight: int = 0  # Summed over all that were killed or frozen, at that moment.

    def settle(self) -> list[str]:
        """Two campaigns of one account; their ids."""
        latency = {"kind": "uniform", "least": 0.02, "most": 0.2}
        self.sandbox.set(SENDER, seed="chaos", latency=latency, idempotent=False, faults=FAULTS)
        wish = {"url": self.sandbox.url, "sender": SENDER, "counts": COUNTS}
        words = [sys.executable, "-m", "tests.chaos.mailing", json.dumps(wish)]
        made = subprocess.run(
            words, cwd=ROOT, env=self.yard.environment, check=True, stdout=subprocess.PIPE
        )
        return json.loads(made.stdout)

    def begin(self) -> list[str]:
        """Let drainers start while the campaigns are made; the campaigns' ids."""
        self.drainers = [self.yard.drain(wait=False) for _ in range(DRAINERS)]
        campaigns = self.settle()
        alive = "select count(*) from jobs_drainer where dead_at is null"
        until(lambda: self.ask(alive) == [(DRAINERS,)], 60, "drainers")
        for campaign in campaigns:
            self.resume(campaign)
        return campaigns

    def ask(self, statement: str, *values) -> list:
        """What the database says; nothing while it is away."""
        try:
            url = self.yard.environment["OPERATOR_DATABASE_URL"]
            with psycopg.connect(url, autocommit=True) as connection:
                cursor = connection.execute(statement, values)
                return cursor.fetchall() if cursor.description else []
        except psycopg.OperationalError:
            return []

    def accepted(self) -> int:
        return self.sandbox.ledger(SENDER)["accepted"]

    # Disasters.

    def kill_a_drainer(self) -> None:
        one = self.chance.randrange(len(self.drainers))
        victim = self.drainers[one]
        self.freeze(victim)  # So that what it has in flight can be counted.
        victim.kill()
        if not LONG:  # Nobody waits fifteen seconds for what is certain.
            self.ask("update jobs_drainer set dead_at = now() where pid = %s", victim.pid)
        self.drainers[one] = self.yard.drain(wait=False)

    def freeze_a_drainer(self) -> None:
        victim = self.chance.choice(self.drainers)
        self.freeze(victim)
        time.sleep(FROZEN)
        victim.send(signal.SIGCONT)
        victim.ends(30)  # It finds its row dead.
        self.drainers[self.drainers.index(victim)] = self.yard.drain(wait=False)

    def freeze(self, victim: Process) -> None:
        victim.send(signal.SIGSTOP)
        held = """select count(*) from campaigns_message m join jobs_drainer d on d.id = m.drainer
                  where d.pid = %s and m.state = 'processing'"""
        time.sleep(0.1)  # What it had asked of the database before is done by then.
        ((count,),) = self.ask(held, victim.pid)
        self.in_flight += count

    def flush_valkey(self) -> None:
        self.valkey.kill()
        self.valkey.start()

    def restart_postgres(self) -> None:
        self.postgres.stop(self.chance.choice(("fast", "immediate")))
        self.postgres.start()

    def pause(self, campaign: str) -> float:
        """As campaigns.services.pause does it; when, in seconds since 1970."""
        self.ask("update campaigns_campaign set state = 'paused' where id = %s", campaign)
        self.ask(
            "insert into jobs_lane (tenant_id, key, paused_until)"
            " select tenant_id, 'campaign:' || id, '9999-12-31' from campaigns_campaign"
            " where id = %s on conflict (tenant_id, key) do update set paused_until = '9999-12-31'",
            campaign,
        )
        return time.time()

    def resume(self, campaign: str) -> float:
        at = time.time()
        self.ask("update campaigns_campaign set state = 'running' where id = %s", campaign)
        self.ask("update jobs_lane set paused_until = null where key = %s", f"campaign:{campaign}")
        return at


@pytest.fixture
def scene(tmp_path: Path):
    # A server that crashes keeps what it has committed, as in production; the disk is not needed.
    postgres = Postgres(tmp_path / "postgres", durable=False, settings={"synchronous_commit": "on"})
    valkey = Valkey(tmp_path / "valkey")
    sandbox = Sandbox()
    host, port = sandbox.pair
    environment = child_environment() | {
        **database_environment(postgres, DATABASE),
        "REDIS_URL": valkey.url,
        "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        "WEBHOOK_OPEN_DESTINATIONS": f"{host}:{port}",
    }
    scene = Scene(postgres, valkey, sandbox, Yard(tmp_path, environment))
    try:
        begin(postgres)
        valkey.start()
        yield scene
    finally:
        scene.yard.clear()
        sandbox.stop()
        valkey.stop()
        postgres.stop("immediate")


def begin(postgres: Postgres) -> None:
    postgres.directory.mkdir()
    copy_data(postgres)
    postgres.start()


def test_nobody_is_written_to_twice_and_nothing_is_called_sent_that_was_not_accepted(scene):
    _, second = scene.begin()
    paused_at = resumed_at = 0.0
    for n, disaster in enumerate(disasters(scene)):
        enough = (n + 1) * sum(COUNTS) // (2 * DISASTERS + 4)
        until(lambda enough=enough: scene.accepted() >= enough, PATIENCE, "messages")
        if n == 1:
            resumed_at = scene.resume(second)
        disaster()
        if n == 0:
            paused_at = scene.pause(second)
    going = "select count(*) from campaigns_message where state not in (%s, %s, %s, %s)"
    ends = ("succeeded", "dead_letter", "cancelled", "unknown")
    hasten = "update campaigns_message set due_at = now() where state = 'scheduled'"
    until(lambda: scene.ask(hasten) or scene.ask(going, *ends) == [(0,)], PATIENCE, "the end")

    check_ledger(scene)
    check_unknown(scene)
    check_counters(scene)
    check_pause(scene, second, paused_at, resumed_at)


def disasters(scene: Scene) -> list[Callable[[], None]]:
    if not LONG:
        return [scene.kill_a_drainer, scene.restart_postgres]
    every = [scene.kill_a_drainer, scene.restart_postgres, scene.flush_valkey]
    every += [scene.freeze_a_drainer, scene.kill_a_drainer]
    return every + scene.chance.choices(every, k=DISASTERS - len(every))


# ---- What must hold ----

STATES = "select id::text, state, campaign_id::text from campaigns_message"


def check_ledger(scene: Scene) -> None:
    ledger = scene.sandbox.ledger(SENDER)
    by_key, rows = ledger["by_key"], scene.ask(STATES)
    of = {state: {id_ for id_, at, _ in rows if at == state} for _, state, _ in rows}
    assert len(rows) == sum(COUNTS)
    assert ledger["most_of_a_key"] == 1, [key for key, n in by_key.items() if n > 1]
    assert ledger["most_of_a_phone"] == 1
    assert of["succeeded"] <= set(by_key)
    assert set(by_key) - of["succeeded"] <= of["unknown"]
    opted_out = scene.ask(
        "select m.id::text from campaigns_message m join pool.customers_customer c"
        " on c.id = m.customer_id where c.consent = 'withdrawn'"
    )
    assert {id_ for (id_,) in opted_out}.isdisjoint(by_key)
    # They are withdrawn, but for those in flight when a drainer died: of these nobody knows.
    assert {id_ for (id_,) in opted_out} <= of["cancelled"] | of["unknown"]


def check_unknown(scene: Scene) -> None:
    """Each has its reason: a fault that leaves it open, or a drainer that died or was frozen."""
    attempts = dict(
        scene.ask(
            "select a.outcome, count(*) from jobs_attempt a join campaigns_message m"
            " on m.id = a.work_id where m.state = 'unknown' and a.outcome in ('lost', 'unknown')"
            " group by 1"
        )
    )
    unknown = scene.ask("select count(*) from campaigns_message where state = 'unknown'")
    assert sum(attempts.values()) == unknown[0][0]
    assert attempts.get("lost", 0) <= scene.in_flight
    answers = scene.sandbox.ledger(SENDER)["answers"]
    # A connection that was reset counts as `lost` there, as does one that died with its drainer.
    ambiguous = sum(answers.get(fault, 0) for fault in [*AMBIGUOUS, "lost"])
    assert attempts.get("unknown", 0) <= ambiguous
    assert unknown[0][0] > 0


def check_counters(scene: Scene) -> None:
    """What was counted as the messages moved is what there is."""
    counted = scene.ask(
        "select id::text, sent, failed, unknown, cancelled from campaigns_campaign order by 1"
    )
    there = scene.ask(
        "select campaign_id::text, count(*) filter (where state = 'succeeded'),"
        " count(*) filter (where state = 'dead_letter'), count(*) filter (where state = 'unknown'),"
        " count(*) filter (where state = 'cancelled') from campaigns_message group by 1 order by 1"
    )
    assert counted == there
    over = "select count(*) from campaigns_campaign where state = 'completed'"
    until(lambda: scene.ask(over) == [(len(COUNTS),)], 30, "the campaigns' own end")
    recounted = "select count(*) from tenants_auditentry where action = 'campaign.recounted'"
    assert scene.ask(recounted) == [(0,)]


def check_pause(scene: Scene, campaign: str, paused_at: float, resumed_at: float) -> None:
    """While it was paused nothing new of it was accepted, but what was on its way."""
    its = {id_ for id_, _, of in scene.ask(STATES) if of == campaign}
    late = [
        line
        for line in scene.sandbox.lines(SENDER)
        if line["key"] in its and paused_at + 2 < line["at"] < resumed_at
    ]
    assert late == []

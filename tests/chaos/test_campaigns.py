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

# Messages of each campaign: two, and one that is cancelled; and one where keys are remembered.
COUNTS = (6_000, 4_000, 4_000) if LONG else (120, 70, 400)
KEYED_COUNTS = (2_000,) if LONG else (40,)
MESSAGES = sum(COUNTS + KEYED_COUNTS)
SENT = sum((*COUNTS[:2], *KEYED_COUNTS))  # Or tried: the third is cancelled soon.
DRAINERS = 3 if LONG else 2
DISASTERS = 20 if LONG else 4
PATIENCE = 600 if LONG else 180  # Seconds until all is done; others may have the machine too.
FROZEN = 25  # Seconds; a drainer that is silent for 15 is declared dead.
SEED = 5
SENDER, KEYED = "ledger", "keyed"
# A copy of it would not do: a crash soon after CREATE DATABASE … TEMPLATE spoils unlogged sequences
# (Postgres 18), on which the tenants' contexts rest.
DATABASE = run.TEMPLATE_NAME

# What goes wrong with a try. With the first four nobody can tell whether it was accepted.
AMBIGUOUS = {"accept_500": 0.02, "error_500": 0.02, "html": 0.01, "accept_reset": 0.02}
FAULTS = AMBIGUOUS | {"unavailable": 0.03, "too_many_until": 0.002, "refused": 0.02}
# With a refusal after all it would not be known what its first answer was.
KEYED_FAULTS = AMBIGUOUS | {"unavailable": 0.03}


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

    hand: subprocess.Popen | None = None  # Calls services as the tenant does.

    def settle(self) -> list[str]:
        """The campaigns' ids."""
        latency = {"kind": "uniform", "least": 0.02, "most": 0.2}
        self.sandbox.set(SENDER, seed="chaos", latency=latency, idempotent=False, faults=FAULTS)
        self.sandbox.set(KEYED, seed="k", latency=latency, idempotent=True, faults=KEYED_FAULTS)
        wish = {"url": self.sandbox.url, "senders": {SENDER: COUNTS, KEYED: KEYED_COUNTS}}
        self.hand = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.mailing", json.dumps(wish)],
            cwd=ROOT, env=self.yard.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        return json.loads(self.hand.stdout.readline())

    def do(self, what: str, campaign: str) -> float:
        """Have a service called for a campaign; when that was done, in seconds since 1970."""
        self.hand.stdin.write(f"{what} {campaign}\n")
        self.hand.stdin.flush()
        return float(self.hand.stdout.readline())

    def begin(self) -> list[str]:
        """Let drainers start while the campaigns are made; the campaigns' ids."""
        self.drainers = [self.yard.drain(wait=False) for _ in range(DRAINERS)]
        campaigns = self.settle()
        alive = "select count(*) from jobs_drainer where dead_at is null"
        until(lambda: self.ask(alive) == [(DRAINERS,)], 60, "drainers")
        for campaign in campaigns:
            self.do("resume", campaign)
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
        return sum(self.sandbox.ledger(sender)["accepted"] for sender in (SENDER, KEYED))

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
        if LONG:
            time.sleep(FROZEN)
        else:  # It is taken for dead, and what it held is closed.
            self.ask("update jobs_drainer set dead_at = now() where pid = %s", victim.pid)
            held = "select count(*) from campaigns_message m join jobs_drainer d"
            held += " on d.id = m.drainer where d.pid = %s"
            until(lambda: self.ask(held, victim.pid) == [(0,)], 20, "rescue")
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
        if scene.hand is not None:
            scene.hand.kill()
            scene.hand.communicate()
        scene.yard.clear()
        sandbox.stop()
        valkey.stop()
        postgres.stop("immediate")


def begin(postgres: Postgres) -> None:
    postgres.directory.mkdir()
    copy_data(postgres)
    postgres.start()


def test_nobody_is_written_to_twice_and_nothing_is_called_sent_that_was_not_accepted(scene):
    _, second, third, _ = scene.begin()
    paused_at = resumed_at = cancelled_at = 0.0
    for n, disaster in enumerate(disasters(scene)):
        enough = (n + 1) * SENT // (3 * DISASTERS)
        until(lambda enough=enough: scene.accepted() >= enough, PATIENCE, "messages")
        if n == 0:  # Before the disaster, which may take longer than they do.
            cancelled_at = scene.do("cancel", third)
            paused_at = scene.do("pause", second)
        if n == 1:
            resumed_at = time.time()
            scene.do("resume", second)
        disaster()
    going = "select count(*) from campaigns_message where state not in (%s, %s, %s, %s)"
    ends = ("succeeded", "dead_letter", "cancelled", "unknown")
    hasten = "update campaigns_message set due_at = now() where state = 'scheduled'"
    until(lambda: scene.ask(hasten) or scene.ask(going, *ends) == [(0,)], PATIENCE, "the end")

    check_ledger(scene)
    check_unknown(scene)
    check_counters(scene)
    check_silence(scene, second, paused_at, resumed_at)
    check_silence(scene, third, cancelled_at, time.time())
    check_keyed(scene)


def disasters(scene: Scene) -> list[Callable[[], None]]:
    if not LONG:
        killed = [scene.kill_a_drainer, scene.restart_postgres]
        return [*killed, scene.freeze_a_drainer, scene.flush_valkey]
    every = [scene.kill_a_drainer, scene.restart_postgres, scene.flush_valkey]
    every += [scene.freeze_a_drainer, scene.kill_a_drainer]
    return every + scene.chance.choices(every, k=DISASTERS - len(every))


# ---- What must hold ----

STATES = "select id::text, state, campaign_id::text from campaigns_message"


def check_ledger(scene: Scene) -> None:
    ledgers = [scene.sandbox.ledger(sender) for sender in (SENDER, KEYED)]
    by_key, rows = ledgers[0]["by_key"] | ledgers[1]["by_key"], scene.ask(STATES)
    of = {state: {id_ for id_, at, _ in rows if at == state} for _, state, _ in rows}
    assert len(rows) == MESSAGES
    for ledger in ledgers:
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
    # A connection that was reset counts as `lost` there, as does one that died with its drainer.
    ambiguous = sum(
        scene.sandbox.ledger(sender)["answers"].get(fault, 0)
        for sender in (SENDER, KEYED)
        for fault in [*AMBIGUOUS, "lost"]
    )
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
    # More than those who opted out, a tenth: most of it still waited.
    cancelled = "select cancelled > total / 3 from campaigns_campaign where state = 'cancelled'"
    assert scene.ask(cancelled) == [(True,)]
    recounted = "select count(*) from tenants_auditentry where action = 'campaign.recounted'"
    assert scene.ask(recounted) == [(0,)]


def check_silence(scene: Scene, campaign: str, begins_at: float, ends_at: float) -> None:
    """While it was paused or cancelled nothing of it was accepted, but what was on its way.

    A drainer that was frozen may go on with what it had begun: that is lost, and said to be.
    """
    its = {id_ for id_, _, of in scene.ask(STATES) if of == campaign}
    lost = "select id::text from campaigns_message where state = 'unknown' and last_error ~ '^lost'"
    its -= {id_ for (id_,) in scene.ask(lost)}
    late = [
        line
        for line in scene.sandbox.lines(SENDER)
        if line["key"] in its and begins_at + 2 < line["at"] < ends_at
    ]
    assert late == []


def check_keyed(scene: Scene) -> None:
    """Where keys are remembered an answer that leaves it open is asked for again."""
    its = (
        "select m.state, count(*) from campaigns_message m"
        " join campaigns_provideraccount a on a.sender = %s and m.account_key = 'account:' || a.id"
        " group by 1"
    )
    found = dict(scene.ask(its, KEYED))
    assert set(found) <= {"succeeded", "unknown", "cancelled", "dead_letter"}
    assert found["succeeded"]
    unasked = (
        "select m.id from campaigns_message m"
        " join campaigns_provideraccount a on a.sender = %s and m.account_key = 'account:' || a.id"
        " where m.state = 'unknown' and not exists (select from jobs_attempt t"
        "   where t.tenant_id = m.tenant_id and t.work_id = m.id and t.outcome = 'lost')"
    )
    assert scene.ask(unasked, KEYED) == []  # Those in whose midst a drainer died are left alone.

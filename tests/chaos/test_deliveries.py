"""Deliveries while all that takes part in them is killed: drainers, beat, Valkey, Postgres.

A receiver of its own process, which nobody kills, is the witness. Whatever happens, each delivery
ends as delivered or dead-lettered, what came twice came under one webhook-id, and the attempts tell
of each request that the receiver saw.
"""

import itertools
import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
from standardwebhooks import Webhook

from config.embedded import Postgres, Valkey
from tests import receiving
from tests.chaos.conftest import LONG, Process, Yard, until
from tests.chaos.crowd import SECRET
from tests.conftest import ROOT, build_database, child_environment, database_environment
from tests.receiving import Inbox, Receiver

TENANTS, ENDPOINTS = (20, 5) if LONG else (4, 5)
EVENTS = 100 if LONG else 30  # Of each tenant.
PUBLISHING = 90 if LONG else 4  # Seconds.
DISASTERS = 24 if LONG else 3
PATIENCE = 240 if LONG else 60  # Seconds until all is done; a drainer's death is seen after 15.
SEED = 3


@dataclass
class Scene:
    """The servers and processes of a test, and how each of them meets its end."""

    postgres: Postgres
    valkey: Valkey
    receiver: Receiver
    yard: Yard
    inboxes: list[list[Inbox]] = field(default_factory=list)
    drainers: list[Process] = field(default_factory=list)
    beat: Process | None = None
    chance: random.Random = field(default_factory=lambda: random.Random(SEED))

    def begin(self) -> None:
        for start in (self.yard.drain, self.yard.worker, self.yard.drain)[: 3 if LONG else 2]:
            self.drainers.append(start(wait=False))
        self.start_beat()

    def start_beat(self) -> None:
        words = ("-m", "celery", "-A", "config", "beat", "--loglevel=WARNING")
        self.beat = self.yard.start(*words, wait=False)

    def crowd(self, *words: str, **options) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.crowd", *words, json.dumps(options)],
            cwd=ROOT,
            env=self.yard.environment,
            stdout=subprocess.PIPE,
        )

    def ask(self, statement: str) -> list:
        """What the database says; nothing while it is away."""
        try:
            url = self.yard.environment["OPERATOR_DATABASE_URL"]
            with psycopg.connect(url, autocommit=True) as connection:
                return connection.execute(statement).fetchall()
        except psycopg.OperationalError:
            return []

    def drainers_beat(self) -> bool:
        alive = self.ask("select count(*) from jobs_drainer where dead_at is null")
        return alive == [(len(self.drainers),)]

    # Disasters.

    def kill_a_drainer(self) -> None:
        one = self.chance.randrange(len(self.drainers))
        self.drainers[one].kill()
        start = self.chance.choice((self.yard.drain, self.yard.worker))
        self.drainers[one] = start(wait=False)

    def kill_beat(self) -> None:
        self.beat.kill()
        self.start_beat()

    def kill_valkey(self) -> None:
        self.valkey.kill()
        self.valkey.start()

    def kill_postgres(self) -> None:
        self.postgres.kill()
        self.postgres.start()

    def restart_postgres(self) -> None:
        self.postgres.stop(self.chance.choice(("fast", "immediate")))
        self.postgres.start()


@pytest.fixture
def scene(tmp_path: Path):
    # A server that crashes keeps what it has committed, as in production; the disk is not needed.
    postgres = Postgres(tmp_path / "postgres", durable=False, settings={"synchronous_commit": "on"})
    valkey = Valkey(tmp_path / "valkey")
    receiver = receiving.start()
    with receiving.opened(receiver):
        environment = child_environment() | {
            **database_environment(postgres, "slipway_own"),
            "REDIS_URL": valkey.url,
            "DJANGO_SETTINGS_MODULE": "tests.chaos.settings",
        }
    scene = Scene(postgres, valkey, receiver, Yard(tmp_path, environment))
    try:
        postgres.start()
        valkey.start()
        build_database(postgres, "slipway_own")
        yield scene
    finally:
        scene.yard.clear()
        receiver.stop()
        valkey.stop()
        postgres.stop("immediate")


def test_each_is_delivered_or_dead_lettered_whoever_is_killed_and_attempts_tell_of_each(scene):
    tenants = settle(scene)
    scene.begin()
    until(scene.drainers_beat, 40, "drainers")
    options = {"tenants": tenants, "events": EVENTS, "seconds": PUBLISHING}
    publisher = scene.crowd("publish", **options)
    for disaster in disasters(scene):
        pause(scene)
        disaster()
    assert int(publisher.communicate(timeout=PATIENCE)[0]) >= TENANTS * EVENTS
    unfinished = "select count(*) from webhooks_delivery where state not in (%s, %s)"
    states = "'succeeded'", "'dead_letter'"
    until(lambda: scene.ask(unfinished % states) == [(0,)], PATIENCE, "deliveries")

    check_nothing_is_lost(scene)
    check_attempts(scene)
    check_order(scene)
    check_signatures(scene)


def settle(scene: Scene) -> list[int]:
    """Tenants with endpoints that are moody; one endpoint never does anything but fail."""
    new = scene.receiver.new
    for _ in range(TENANTS):
        scene.inboxes.append([new("moody", next(_seeds)) for _ in range(ENDPOINTS)])
    scene.inboxes[0][0] = new("status", 500)
    urls = [[inbox.url for inbox in theirs] for theirs in scene.inboxes]
    return json.loads(scene.crowd("settle", tenants=TENANTS, urls=urls).communicate()[0])


_seeds = itertools.count(SEED)


def disasters(scene: Scene) -> list[Callable[[], None]]:
    if not LONG:
        return [scene.kill_a_drainer, scene.kill_valkey, scene.kill_postgres]
    every = [scene.kill_a_drainer, scene.kill_beat, scene.kill_valkey]
    every += [scene.kill_a_drainer, scene.kill_postgres, scene.restart_postgres]
    drawn = scene.chance.choices(every, k=DISASTERS - len(every))
    return every + drawn


def pause(scene: Scene) -> None:
    """Wait until the receiver has had some more, so that each disaster hits work in progress."""
    enough = arrived(scene) + scene.chance.randint(20, 60) * (5 if LONG else 1)
    until(lambda: arrived(scene) >= enough, PATIENCE, "requests before the next disaster")


def arrived(scene: Scene) -> int:
    return scene.receiver.ask("GET", "total")


# ---- What must hold ----

DELIVERIES = """
select w.url, e.id, d.state, d.attempts, d.seq, d.id
from webhooks_delivery d join webhooks_endpoint w on w.id = d.endpoint_id
join webhooks_event e on e.id = d.event_id order by d.seq, d.id
"""
LOG = """
select work_id, outcome, number, request ->> 'body_sha256', response is not null
from jobs_attempt where queue = 'deliveries' order by number
"""


def seen_by(scene: Scene) -> dict:
    """What the receiver saw: (URL, webhook-id) → requests."""
    seen = defaultdict(list)
    for inbox in itertools.chain(*scene.inboxes):
        for request in inbox.seen:
            seen[inbox.url, request["headers"]["webhook-id"]].append(request)
    return seen


def name_of(event) -> str:
    return f"evt_{event}"


def check_nothing_is_lost(scene: Scene) -> None:
    """All that was published is told to all, once or more; what succeeded was seen."""
    events = scene.ask("select count(*) from webhooks_event where type = 'a.b'")
    assert events == [(TENANTS * EVENTS,)]  # One for each key.
    rows = scene.ask(DELIVERIES)
    assert len(rows) == TENANTS * EVENTS * ENDPOINTS
    assert len({(url, event) for url, event, *_ in rows}) == len(rows)
    seen = seen_by(scene)
    succeeded = {(url, name_of(event)) for url, event, state, *_ in rows if state == "succeeded"}
    assert succeeded <= set(seen) <= {(url, name_of(event)) for url, event, *_ in rows}
    # Few are dead but those of the endpoint that always fails: seven of a hundred tries do.
    dead = [url for url, _, state, *_ in rows if state == "dead_letter"]
    failing = scene.inboxes[0][0].url
    assert dead.count(failing) == EVENTS
    assert len(dead) == EVENTS
    letters = scene.ask(
        "select count(*) from jobs_deadletter where queue = 'deliveries' and resolved_at is null"
    )
    assert letters == [(len(dead),)]


def check_attempts(scene: Scene) -> None:
    """Each request has its attempt, each answer its request, and all of one id are the same."""
    attempts = defaultdict(list)
    for work, *attempt in scene.ask(LOG):
        attempts[work].append(attempt)
    seen, twice = seen_by(scene), 0
    for url, event, state, counted, _, work in scene.ask(DELIVERIES):
        requests, tried = seen[url, name_of(event)], attempts[work]
        assert [number for _, number, *_ in tried] == list(range(1, counted + 1))
        answered = sum(has_answer for *_, has_answer in tried)
        assert answered <= len(requests) <= len(tried), (url, event, tried)
        assert [outcome for outcome, *_ in tried].count("succeeded") == (state == "succeeded")
        assert len({request["body"] for request in requests}) <= 1
        digests = {digest for *_, digest, _ in tried if digest}
        assert digests <= {sha256(request["body"].encode()).hexdigest() for request in requests}
        twice += len(requests) > 1
    assert twice > 0
    assert any(outcome == "lost" for tried in attempts.values() for outcome, *_ in tried)


def check_order(scene: Scene) -> None:
    """At an ordered endpoint each came for the first time when all before it had come."""
    published = defaultdict(list)
    for url, event, _, _, seq, _ in scene.ask(DELIVERIES):
        if seq is not None:
            published[url].append(name_of(event))
    assert len(published) == TENANTS
    for theirs in scene.inboxes:
        names = [request["headers"]["webhook-id"] for request in theirs[-1].seen]
        assert list(dict.fromkeys(names)) == published[theirs[-1].url]


def check_signatures(scene: Scene) -> None:
    requests = [request for inbox in scene.inboxes[-1] for request in inbox.seen]
    for request in scene.chance.sample(requests, 20):
        assert Webhook(SECRET).verify(request["body"], request["headers"])["type"] == "a.b"

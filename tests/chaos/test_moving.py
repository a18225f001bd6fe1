"""A tenant that moves from home to home under 50 writes a second, while the mover is killed.

Several writers keep a ledger of what the API acknowledged. Whatever is killed, and in whichever
phase, afterwards the tenant's rows are those of the ledger, each once; and nothing was written in
the old home once it was left.
"""

import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from config.embedded import Postgres, Valkey
from tests import settings as run
from tests.chaos.conftest import LONG, Process, Yard, until
from tests.conftest import ROOT, child_environment, copy_data, database_environment
from tests.upping import free_ports

CUSTOMERS = 1_500 if LONG else 150  # Before it moves, and about as many all the while.
RATE = 50.0  # Writes a second, of all writers.
WRITERS = 10
WEBS = 2  # Processes, each of which remembers on its own where a tenant lives.
PATIENCE = 300 if LONG else 120
# Each is met by a kill: on the way there, and on the way back.
PHASES = ("prepare", "capture", "copy", "verify", "switch", "keep", "clear")
ORDER = (*PHASES, "done")
ROUNDS = [(plan, phase) for phase in PHASES for plan in ("pro", "free")] if LONG else []
SHORT_ROUNDS = [("pro", PHASES), ("free", PHASES[2:5])]
OFFERED_LEAST = 40.0  # Writes a second, by ten writers who wait for their answers.
REFUSED_MOST = 5.0  # Seconds, on a machine that does all of this on two cores.


WRITTEN = ("id", "name", "phone", "email", "attributes", "lifetime_value")
Fields = dict[str, Any]


def fields_of(key: str) -> Fields:
    """What is written of one customer, in each field its own."""
    number = int(key, 36) % 10**7
    return {
        "name": f"{key} 家",
        "phone": f"+4930{number:07}",
        "email": f"{key}@example.org",
        "attributes": {"key": key, "list": [number, None]},
        "lifetime_value": f"{number / 100:.2f}",
    }


@dataclass
class Ledger:
    """What was acknowledged, and how long whoever was refused had to ask again."""

    rows: dict[str, Fields] = field(default_factory=dict)  # External id → all that was written.
    free: list[tuple[str, str]] = field(default_factory=list)  # Nobody writes them: key, id.
    lock: threading.Lock = field(default_factory=threading.Lock)
    refusals: list[float] = field(default_factory=list)
    offered: int = 0  # Writes, each once, however often it was refused.
    acknowledged: int = 0
    odd: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class Writer(threading.Thread):
    """Inserts, updates and deletes in turn, as any back end does: told to wait, it waits."""

    def __init__(self, number: int, ports: list[int], token: str, ledger: Ledger) -> None:
        super().__init__(daemon=True)
        self.number, self.ledger = number, ledger
        self.url = f"http://127.0.0.1:{ports[number % len(ports)]}/v1/customers"
        self.session = requests.Session()
        self.session.headers.update(
            {"Authorization": f"Bearer {token}", "Host": "slipway.localhost"}
        )

    def run(self) -> None:
        due = time.monotonic()
        for turn in range(10**9):
            if self.ledger.over.is_set():
                return
            try:
                (self.insert, self.update, self.delete)[turn % 3]()
            except Exception as error:
                self.ledger.odd.append(repr(error))
            due = max(due + WRITERS / RATE, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))

    def insert(self) -> None:
        key = uuid.uuid4().hex[:12]
        made = self.ask("POST", "", fields_of(key) | {"external_id": key})
        with self.ledger.lock:
            self.ledger.rows[key] = fields_of(key) | {"id": made["id"]}
            self.ledger.free.append((key, made["id"]))

    def update(self) -> None:
        row = self.take()
        if row is None:
            return
        changed = fields_of(uuid.uuid4().hex[:12])
        self.ask("PATCH", f"/{row[1]}", changed)
        with self.ledger.lock:
            self.ledger.rows[row[0]] = changed | {"id": row[1]}
            self.ledger.free.append(row)

    def delete(self) -> None:
        row = self.take()
        if row is None:
            return
        self.ask("DELETE", f"/{row[1]}", None)
        with self.ledger.lock:
            del self.ledger.rows[row[0]]

    def take(self) -> tuple[str, str] | None:
        with self.ledger.lock:
            place = self.number * 7919 % max(1, len(self.ledger.free))
            return self.ledger.free.pop(place) if self.ledger.free else None

    def ask(self, method: str, path: str, body) -> dict:
        """The answer, after as many refusals as there are; nothing else may go wrong."""
        refused_at = None
        with self.ledger.lock:
            self.ledger.offered += 1
        while True:
            answer = self.session.request(method, self.url + path, json=body, timeout=30)
            if answer.status_code == 503 and answer.json()["code"] == "tenant_moving":
                refused_at = refused_at or time.monotonic()
                assert answer.headers["Retry-After"] == "1"
                time.sleep(0.1)  # Impatient: so it is seen how long refusing lasts.
                continue
            break
        if refused_at is not None:
            self.ledger.refusals.append(time.monotonic() - refused_at)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        with self.ledger.lock:
            self.ledger.acknowledged += 1
        return answer.json() if answer.content else {}


@dataclass
class Scene:
    """A Postgres, two web processes and one mover, and the platform that asks it to move."""

    yard: Yard
    postgres: Postgres
    ports: list[int]
    tenant: int
    tokens: list[str]  # A key of its own for each writer: a key has its limit.
    platform: str
    mover: Process | None = None
    kills: list[tuple[str, str]] = field(default_factory=list)  # The plan, and the phase.

    def ask_all(self, statement: str, *values) -> list:
        url = self.yard.environment["OPERATOR_DATABASE_URL"]
        with psycopg.connect(url, autocommit=True) as connection:
            return connection.execute(statement, values).fetchall()

    def ask(self, statement: str, *values):
        return self.ask_all(statement, *values)[0][0]

    def phase(self) -> str:
        return self.ask(
            "select phase from lifecycle_planmove where tenant_id = %s order by id desc limit 1",
            self.tenant,
        )

    def begin(self, plan: str) -> None:
        asked = requests.post(
            f"http://127.0.0.1:{self.ports[0]}/v1/tenants/t-{self.tenant}/plan",
            json={"plan": plan, "reason": "The chaos test."},
            headers={"Authorization": f"Bearer {self.platform}", "Host": "slipway.localhost"},
            timeout=30,
        )
        assert asked.status_code == 202, asked.text

    def start_mover(self) -> None:
        self.mover = self.yard.drain(wait=False)

    def kill_in(self, phase: str) -> str:
        """Kill the mover in this phase, which it cannot leave meanwhile; the phase that it was.

        It writes how far it is into the row that is held here. That it comes to that, or is in the
        middle of something, is left to chance.
        """
        url = self.yard.environment["OPERATOR_DATABASE_URL"]
        ends_at = time.monotonic() + PATIENCE
        with psycopg.connect(url, autocommit=True) as connection:
            while (at := hold(connection, self.tenant)) != phase:
                assert ORDER.index(at) < ORDER.index(phase), f"{phase} was missed: {self.told()}"
                assert time.monotonic() < ends_at, f"not at {phase}: {self.told()}"
                time.sleep(0.005)  # Held: it is let go by the statement that holds it again.
            # Three deaths in a row are poison: of the phase before, the engine has heard by then.
            until(lambda: self.ask(LOSSES, self.tenant) == 0, 20, "the phase before, settled")
            time.sleep(random.uniform(0.0, 0.1))
            self.mover.kill()
        self.replace_mover()
        return at

    def replace_mover(self) -> None:
        """That its drainer died is seen at once, and not after a quarter of a minute."""
        self.ask_all(
            "update jobs_drainer set beat_at = '2020-01-01' where pid = %s returning 1",
            self.mover.pid,
        )
        self.start_mover()

    def move(self, plan: str, phases) -> None:
        """Move, with a kill in each of these phases."""
        self.begin(plan)
        for phase in phases:
            self.kills.append((plan, self.kill_in(phase)))
        ends_at = time.monotonic() + PATIENCE
        while self.phase() != "done":
            assert time.monotonic() < ends_at, f"not at its end: {self.told()}"
            time.sleep(0.02)

    def told(self) -> str:
        said = self.ask_all(
            "select phase, error, rows_done,"
            " (select string_agg(state || ' ' || last_error, '; ') from jobs_job j"
            " where j.kind = 'tenants.move' and j.tenant_id = m.tenant_id)"
            " from lifecycle_planmove m where tenant_id = %s order by id desc limit 1",
            self.tenant,
        )
        return f"{said}\n{self.mover.said()[-2000:]}"


LOSSES = """
select losses from jobs_job where kind = 'tenants.move' and tenant_id = %s order by id desc limit 1
"""
# In one message: nobody gets through two phases between the second word and the last.
HOLD = """
rollback; begin;
select phase from lifecycle_planmove where tenant_id = {} order by id desc limit 1 for update
"""


def hold(connection: psycopg.Connection, tenant: int) -> str:
    """The phase of the last move, which does not leave it until this is asked again."""
    cursor = connection.execute(HOLD.format(tenant))
    while cursor.nextset():
        pass
    return cursor.fetchone()[0]


SETTLE = """
import sys, json, uuid, django
django.setup()
from customers.models import Customer
from tenants.context import tenant_context
from tests.conftest import create_tenant
from tests.chaos.test_moving import fields_of
from tests.people import platform_key, tenant_key
tenant = create_tenant("pooled")
tenant.slug = f"t-{tenant.pk}"
tenant.save(using="operator")
with tenant_context(tenant):
    made = Customer.objects.bulk_create(
        Customer(external_id=f"old{n}", **fields_of(f"old{n}")) for n in range(int(sys.argv[1]))
    )
tokens = [tenant_key(tenant) for _ in range(int(sys.argv[2]))]
print(json.dumps([tenant.pk, tokens, platform_key(), [str(one.pk) for one in made]]))
"""


@pytest.fixture
def staged(tmp_path: Path) -> Iterator[tuple[Scene, Ledger]]:
    postgres = Postgres(tmp_path / "postgres", durable=False, settings={"synchronous_commit": "on"})
    valkey = Valkey(tmp_path / "valkey")
    postgres.directory.mkdir(parents=True, exist_ok=True)
    copy_data(postgres)
    yard = Yard(
        tmp_path,
        child_environment()
        | database_environment(postgres, run.TEMPLATE_NAME)
        | {"REDIS_URL": valkey.url, "DJANGO_SETTINGS_MODULE": "tests.chaos.moving"},
    )
    try:
        postgres.start()
        valkey.start()
        yield staged_scene(yard, postgres)
    finally:
        yard.clear()
        valkey.stop()
        postgres.stop("immediate")


def staged_scene(yard: Yard, postgres: Postgres) -> tuple[Scene, Ledger]:
    settled = subprocess.run(
        [sys.executable, "-c", SETTLE, str(CUSTOMERS), str(WRITERS)],
        cwd=ROOT, env=yard.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert settled.returncode == 0, settled.stderr
    tenant, tokens, platform, ids = json.loads(settled.stdout.splitlines()[-1])
    first = free_ports()
    ports = [first + n for n in range(WEBS)]
    for port in ports:
        yard.start(
            "-m", "granian", "--interface", "wsgi", "--port", str(port), "--no-ws",
            "--blocking-threads", "4", "--log-level", "warning", "config.wsgi:application",
            wait=False, PORT=str(port), DATABASE_POOL_SIZE="0",
        )  # fmt: skip
    for port in ports:
        until(lambda port=port: answers(port), 60, "a web process")
    ledger = Ledger()
    ledger.free = [(f"old{n}", f"cus_{id_}") for n, id_ in enumerate(ids)]
    ledger.rows = {key: fields_of(key) | {"id": id_} for key, id_ in ledger.free}
    return Scene(yard, postgres, ports, tenant, tokens, platform), ledger


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=1).ok
    except requests.RequestException:
        return False


@contextmanager
def writing(scene: Scene, ledger: Ledger) -> Iterator[list[Writer]]:
    writers = [
        Writer(number, scene.ports, token, ledger) for number, token in enumerate(scene.tokens)
    ]
    for writer in writers:
        writer.start()
    try:
        yield writers
    finally:
        ledger.over.set()
        for writer in writers:
            writer.join(60)


def test_nothing_is_lost_when_the_mover_is_killed_in_each_phase(staged, capsys):
    scene, ledger = staged
    scene.start_mover()
    moves = [(plan, [phase]) for plan, phase in ROUNDS] or SHORT_ROUNDS
    began_at = time.monotonic()
    with writing(scene, ledger):
        for plan, phases in moves:
            scene.move(plan, phases)
        rate = ledger.offered / (time.monotonic() - began_at)
    assert ledger.odd == []
    assert ledger.acknowledged == ledger.offered  # Whoever was refused asked again, and got it.
    assert scene.kills == [(plan, phase) for plan, phases in moves for phase in phases]
    assert {phase for _, phase in scene.kills} == set(PHASES)
    assert_same(scene, ledger, schema="pool")  # Where the last move led.
    assert scene.ask("select count(*) from pg_trigger where tgname like 'slipway_moving%%'") == 0
    assert scene.ask("select count(*) from lifecycle_change") == 0
    assert scene.ask("select count(*) from pg_namespace where nspname ~ '^t_[0-9]+$'") == 0
    longest = max(ledger.refusals, default=0.0)
    with capsys.disabled():
        print(
            f"\n{len(moves)} moves, {len(scene.kills)} kills (each phase),"
            f" {ledger.offered} writes at {rate:.0f}/s, {len(ledger.refusals)} refused,"
            f" the longest for {longest:.2f} s"
        )
    assert longest < REFUSED_MOST
    assert rate > OFFERED_LEAST


def assert_same(scene: Scene, ledger: Ledger, *, schema: str) -> None:
    """Every write that was acknowledged is there, once, and nothing else is."""
    found = scene.ask_all(
        "select external_id, 'cus_' || id, name, phone, email, attributes, lifetime_value::text"
        f" from {schema}.customers_customer where tenant_id = %s",
        scene.tenant,
    )
    there = {key: dict(zip(WRITTEN, fields, strict=True)) for key, *fields in found}
    assert len(found) == len(there)
    lost = {key: row for key, row in ledger.rows.items() if there.get(key) != row}
    more = set(there) - set(ledger.rows)
    assert (lost, more) == ({}, set())

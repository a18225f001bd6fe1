"""The whole machine, driven at random against the real database (Hypothesis).

Two drainers, plain and ordered lanes, a breaker, and a queue whose works must not happen twice. A
trigger writes down every move that a row makes. Whatever happens, in whatever order: no move but
the drawn ones, attempts counted exactly, one lease a work, caps kept, order kept, nothing started
in a lane that is paused or shut, and nothing ever lost.
"""

import asyncio
import os
from collections import Counter
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import namedtuple_row

from jobs import lanes, services, shutting
from jobs.breaker import Breaker
from jobs.engine import claim as claiming
from jobs.engine import settle as settling
from jobs.engine import verdict
from jobs.engine.verdict import POISONOUS
from jobs.errors import StaleState
from jobs.models import DeadLetter, Lane
from jobs.outcomes import Fail, Retry, Snooze, Succeeded, Throttled, Unknown, Withdrawn
from jobs.registry import queue
from jobs.states import FINISHED, LEASED, TRANSITIONS
from tests import settings as run
from tests.jobs.conftest import Engine, withdraw_everything
from tests.jobs.watching import watching
from tests.works.models import Parcel, Telegram

BREAKER = Breaker(failures=1, pauses=(60.0, 300.0))  # So that it opens often.
MODELS = {"parcels": Parcel, "telegrams": Telegram}
# The last lane of parcels is ordered.
LANES = [("parcels", 0), ("parcels", 1), ("parcels", 2), ("telegrams", 0)]
ORDERED = ("parcels", 2)
FAILURES = (Retry, Fail, Unknown)
OUTCOMES = st.sampled_from(
    [
        Succeeded(),
        Retry("not yet"),
        Fail("never"),
        Snooze(0, "not now"),
        Unknown("no answer"),
        Throttled(1, "not so fast"),
        Withdrawn("nobody wants it"),
    ]
)

WATCH = """
create table move (work_id uuid, old text, new text);
grant insert on move to slipway_operator;
create function note_move() returns trigger language plpgsql as $$
begin
  if old.state is distinct from new.state then
    insert into public.move values (new.id, old.state, new.state);
  end if;
  return new;
end $$;
create trigger note_move before update on works_parcel for each row execute function note_move();
create trigger note_move before update on works_telegram for each row execute function note_move();
"""
# Each work, with the attempts that count and the letters that wait.
WORKS = " union all ".join(
    f"""
    select '{name}' as queue, id, state, lane, seq, lease, drainer, attempts, max_attempts, losses,
      last_error, due_at, finished_at,
      (select count(*) from jobs_attempt a where a.tenant_id = w.tenant_id and a.work_id = w.id
       and a.outcome <> 'throttled') as tried,
      (select count(*) from jobs_deadletter d where d.tenant_id = w.tenant_id and d.work_id = w.id
       and d.resolved_at is null) as letters
    from {model._meta.db_table} w where tenant_id = %(tenant)s"""
    for name, model in MODELS.items()
)
DEATHS = """
select (select count(*) from jobs_deadletter where tenant_id = %(tenant)s) as letters,
  (select count(*) from jobs_deadletter
   where tenant_id = %(tenant)s and queue = 'parcels') as parcels,
  (select count(*) from tenants_auditentry
   where tenant_id = %(tenant)s and action = 'work.dead_lettered') as audited,
  (select coalesce(sum((args->>'count')::int), 0) from jobs_job where tenant_id = %(tenant)s
   and kind = 'notice' and args->>'what' = 'exhausted') as told
"""
UNWATCH = """
drop trigger note_move on works_parcel;
drop trigger note_move on works_telegram;
drop function note_move;
drop table move
"""


@pytest.fixture
def moves(monkeypatch):
    superuser = run.postgres.conninfo(run.DATABASE_NAME, "postgres")
    watched = {"breaker": "tests.jobs.test_machine.BREAKER", "notice": "notice"}
    with (
        watching("parcels", monkeypatch, **watched),
        psycopg.connect(superuser, autocommit=True, row_factory=namedtuple_row) as connection,
    ):
        connection.execute(WATCH)
        yield connection
        connection.execute(UNWATCH)


class Machine(RuleBasedStateMachine):
    """A handful of works of one tenant in four lanes, and two drainers that come and go."""

    watch: psycopg.Connection
    claims = Bundle("claims")
    stale = Bundle("stale")

    @initialize()
    def begin(self) -> None:
        withdraw_everything()
        self.engine = Engine()
        self.connections = [self.engine.connection, self.engine.connect()]
        self.watch.execute("truncate move")
        self.tenant = self.engine.tenant()
        self.drainers = [self.engine.drainer(), self.engine.drainer()]
        self.works: dict = {}  # The id of each, and its queue.
        self.in_a_row: Counter = Counter()  # Failures, by lane.
        for lane in LANES:
            self.enqueue(lane, budget=4, count=3)

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.run(self.connections[1].close())
            self.engine.close()

    def key(self, lane) -> str:
        return f"{lane[0]}:{self.tenant}:{lane[1]}"

    def rows(self, name: str = "parcels"):
        return MODELS[name].objects.using("operator").filter(tenant_id=self.tenant)

    def all_rows(self) -> list:
        return self.watch.execute(WORKS, {"tenant": self.tenant}).fetchall()

    # ---- What callers and operators do ----

    @rule(lane=st.sampled_from(LANES), budget=st.integers(1, 4), count=st.integers(1, 3))
    def enqueue(self, lane, budget: int, count: int) -> None:
        for _ in range(count):
            self.add(lane, max_attempts=budget)

    @rule(lane=st.sampled_from(LANES))
    def schedule(self, lane) -> None:
        self.add(lane, state="scheduled", due_at=datetime.now(UTC) + timedelta(hours=1))

    def add(self, lane, **columns) -> None:
        if lane == ORDERED:
            columns["seq"] = len(self.works)
        (work,) = self.engine.add(
            MODELS[lane[0]], tenant=self.tenant, lane=self.key(lane), **columns
        )
        self.works[work.pk] = lane[0]

    @rule(act=st.sampled_from([services.replay, services.discard]))
    def resolve(self, act) -> None:
        letters = DeadLetter.objects.using("operator")
        if first := letters.filter(tenant_id=self.tenant, resolved_at=None).first():
            act(dead_letter=first, actor="operator:1", reason="because")

    @rule(nth=st.integers(0, 7))
    def cancel(self, nth: int) -> None:
        if nth < len(self.works):
            pk, name = list(self.works.items())[nth]
            state = self.rows(name).get(pk=pk).state
            try:
                services.cancel(queue=name, work_id=pk, actor="operator:1", reason="because")
            except StaleState:
                assert state in {*LEASED, *FINISHED}

    @rule(lane=st.sampled_from(LANES), pause=st.sampled_from([True, False, False]))
    def pause(self, lane, pause: bool) -> None:
        named = {"key": self.key(lane), "tenant_id": self.tenant, "actor": "operator:1"}
        if pause:
            lanes.pause(**named, until=datetime.now(UTC) + timedelta(hours=9), reason="because")
        else:
            lanes.resume(**named)
            self.in_a_row[self.key(lane)] = 0  # An operator's word closes the breaker.

    @rule(lane=st.sampled_from(LANES), shut=st.sampled_from([True, False, False]))
    def hold(self, lane, shut: bool) -> None:
        act = shutting.hold if shut else shutting.release
        act(queue=lane[0], tenant_id=self.tenant, lane=self.key(lane))
        waiting = ["scheduled", "failed", "pending"] if shut else ["held"]
        assert not self.rows(lane[0]).filter(lane=self.key(lane), state__in=waiting).exists()

    # ---- What time does ----

    @rule(hours=st.integers(0, 1))
    def time_passes(self, hours: int) -> None:
        """What waits is due; an hour later, what a breaker or a throttle paused may start again."""
        self.engine.sql(
            "update jobs_lane set paused_until = paused_until - make_interval(hours => %s),"
            " operator_paused_until = operator_paused_until - make_interval(hours => %s),"
            " opened_until = opened_until - make_interval(hours => %s) where tenant_id = %s",
            *(hours, hours, hours, self.tenant),
        )
        for name in MODELS:
            waiting = self.rows(name).filter(state__in=["scheduled", "failed"])
            waiting.update(due_at="2026-01-01T00:00Z")
        self.engine.look()
        assert not [work for work in self.all_rows() if work.state in {"scheduled", "failed"}]

    # ---- What drainers do ----

    @rule(
        target=claims,
        me=st.integers(0, 1),
        name=st.sampled_from(list(MODELS)),
        slots=st.integers(1, 6),
    )
    def claim(self, me: int, name: str, slots: int):
        before = self.lanes_before()
        claims = self.engine.claim(
            name, drainer=self.drainers[me], slots=slots, connection=self.connections[me]
        )
        self.started(before, claims)
        return claims

    @rule(me=st.integers(0, 1), name=st.sampled_from(list(MODELS)), outcome=OUTCOMES)
    def try_one(self, me: int, name: str, outcome) -> None:
        before = self.lanes_before()
        claims = self.engine.claim(
            name, drainer=self.drainers[me], slots=1, connection=self.connections[me]
        )
        self.started(before, claims)
        ours = self.expected(claims, outcome)
        assert self.engine.settle(*((claim, outcome) for claim in claims)) == ours == len(claims)

    @rule(me=st.integers(0, 1))
    def a_lane_fails_and_its_pause_passes(self, me: int) -> None:
        self.try_one(me=me, name="parcels", outcome=Retry("not yet"))
        self.time_passes(hours=1)

    @rule(target=claims, slots=st.integers(1, 6))
    def claim_at_once(self, slots: int):
        before = self.lanes_before()
        both = self.together(
            lambda me: claiming.claim(
                self.connections[me],
                queue("parcels"),
                drainer=self.drainers[me],
                slots=slots,
                cursor=claiming.Cursor(),
            )
        )
        self.started(before, [claim for taken in both for claim in taken.claims])
        return multiple(*(taken.claims for taken in both))

    def together(self, act) -> list:
        async def both():
            return await asyncio.gather(act(0), act(1))

        return self.engine.run(both())

    def lanes_before(self):
        """The lanes that are paused, those that are half open, and what is in progress in each."""
        rows = self.engine.sql(
            "select key, greatest(paused_until, operator_paused_until) > now() from jobs_lane"
            " where tenant_id = %s"
            " and (trips > 0 or greatest(paused_until, operator_paused_until) > now())",
            self.tenant,
        )
        busy = Counter(work.lane for work in self.all_rows() if work.state == "processing")
        return {key for key, paused in rows if paused}, {key for key, _ in rows}, busy

    def started(self, before, claims) -> None:
        paused, ailing, busy = before
        begun = Counter(claim.lane for claim in claims)
        assert not paused & set(begun)
        for lane in ailing:
            assert begun[lane] <= max(0, 1 - busy[lane])
        assert not [claim for claim in claims if self.works[claim.id] != claim.queue]

    @rule(target=claims, me=st.integers(0, 1))
    def claim_undo(self, me: int):
        self.rows().filter(state="discarding").update(due_at="2026-01-01T00:00Z")
        return self.engine.claim_undo(drainer=self.drainers[me])

    @rule(target=stale, held=consumes(claims), outcome=OUTCOMES)
    def settle(self, held, outcome):
        ours = self.expected(held, outcome)
        assert self.engine.settle(*((claim, outcome) for claim in held)) == ours
        return held

    @rule(target=stale, held=consumes(claims), others=consumes(claims), outcome=OUTCOMES)
    def settle_at_once(self, held, others, outcome):
        ours = self.expected([*held, *others], outcome)
        batches = [
            [
                verdict.settle(c, outcome, queue=queue(c.queue), elapsed=0.01, random=lambda: 0.0)
                for c in claims
            ]
            for claims in (held, others)
        ]
        settled = self.together(lambda me: settling.settle(self.connections[me], batches[me]))
        assert sum(map(len, settled)) == ours
        return multiple(held, others)

    def expected(self, claims, outcome) -> int:
        """How many of these are still ours; counts what they say of their lanes."""
        ours = [claim for claim in claims if self.still_ours(claim)]
        for claim in ours:
            if claim.queue == "parcels" and not claim.discarding:
                if isinstance(outcome, FAILURES):
                    self.in_a_row[claim.lane] += 1
                elif isinstance(outcome, Succeeded):
                    self.in_a_row[claim.lane] = 0
        return len(ours)

    @rule(target=stale, held=consumes(claims))
    def hand_back(self, held):
        self.engine.hand_back(*held)
        return held

    @rule(held=stale, outcome=OUTCOMES)
    def settle_what_is_not_ours_any_more(self, held, outcome) -> None:
        before = self.all_rows()
        assert self.engine.settle(*((claim, outcome) for claim in held)) == 0
        assert self.all_rows() == before

    @rule(me=st.integers(0, 1))
    def die(self, me: int) -> None:
        """The drainer falls silent and is rescued from; another one comes in its place."""
        dead = self.drainers[me]
        held = len([work for work in self.all_rows() if work.drainer == dead])
        self.engine.silence(dead)
        assert self.engine.rescue() == held
        assert self.engine.claim(drainer=dead) == []
        self.drainers[me] = self.engine.drainer()
        assert self.engine.rescue() == 0  # The others beat.

    def still_ours(self, claim) -> bool:
        return self.rows(claim.queue).filter(pk=claim.id, lease=claim.lease).exists()

    # ---- What always holds ----

    @invariant()
    def only_the_drawn_moves_are_made(self) -> None:
        if hasattr(self, "engine"):
            made = {(old, new) for old, new in self.watch.execute("select old, new from move")}
            assert made <= {(str(start), str(end)) for start, end in TRANSITIONS}
            assert ("unknown", "pending") not in made  # Nobody here asked for that.

    @invariant()
    def works_are_as_they_should(self) -> None:
        if hasattr(self, "engine"):
            rows = self.all_rows()
            self.every_work_is_accounted_for(rows)
            self.caps_are_kept_and_so_is_order(rows)

    def every_work_is_accounted_for(self, rows) -> None:
        assert {work.id for work in rows} == set(self.works)
        for work in rows:
            held = work.lease is not None
            assert held == (work.drainer is not None)
            assert held <= (work.state in LEASED)
            assert work.state != "processing" or held
            assert work.attempts == work.tried + held
            assert work.attempts <= work.max_attempts
            assert 0 <= work.losses < POISONOUS or work.state == "dead_letter"
            assert (work.finished_at is not None) == (work.state in FINISHED)
            assert work.letters == (work.state == "dead_letter")

    def caps_are_kept_and_so_is_order(self, rows) -> None:
        busy = [work for work in rows if work.state == "processing"]
        for kept, name in ((queue(name), name) for name in MODELS):
            of_queue = Counter(work.lane for work in busy if work.queue == name)
            assert of_queue.total() <= kept.tenant_window
            assert max(of_queue.values(), default=0) <= kept.lane_window
        ordered = [work for work in rows if work.lane == self.key(ORDERED)]
        unfinished = sorted(work.seq for work in ordered if work.state not in FINISHED)
        begun = [work.seq for work in ordered if work.state == "processing"]
        assert begun in ([], unfinished[:1])

    @invariant()
    def lanes_know_how_often_they_failed_in_a_row(self) -> None:
        if not hasattr(self, "engine"):
            return
        found = self.watch.execute("select * from jobs_lane where tenant_id = %s", [self.tenant])
        rows = {lane.key: lane for lane in found}
        for key in map(self.key, LANES):
            lane = rows.get(key, Lane())
            assert lane.failures == self.in_a_row[key]
            assert (lane.failing_since is None) == (lane.failures == 0)
            assert (lane.trips > 0) == (lane.failures >= BREAKER.failures)
            assert (lane.opened_at is None) == (lane.trips == 0)

    @invariant()
    def every_death_is_audited_and_told(self) -> None:
        if hasattr(self, "engine"):
            (one,) = self.watch.execute(DEATHS, {"tenant": self.tenant})
            assert one.audited == one.letters
            assert one.told == one.parcels


def test_no_sequence_of_events_breaks_the_machine(moves):
    long = os.environ.get("SLIPWAY_CHAOS") == "long"
    Machine.watch = moves
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=500 if long else 12,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

"""The whole machine, driven at random against the real database (Hypothesis).

A trigger writes down every move that a row makes. Whatever happens, in whatever order: no move but
the drawn ones, attempts counted exactly, one lease a work, caps kept, and nothing ever lost.
"""

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
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs import lanes, services
from jobs.engine.verdict import POISONOUS
from jobs.errors import StaleState
from jobs.models import Attempt, DeadLetter
from jobs.outcomes import Fail, Retry, Snooze, Succeeded, Unknown
from jobs.registry import queue
from jobs.states import FINISHED, LEASED, TRANSITIONS, State
from tenants.models import AuditEntry
from tests import settings as run
from tests.jobs.conftest import Engine, withdraw_everything
from tests.works.models import Parcel

LANES = 2
OUTCOMES = st.sampled_from(
    [Succeeded(), Retry("not yet"), Fail("never"), Snooze(0, "not now"), Unknown("no answer")]
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
"""
UNWATCH = "drop trigger note_move on works_parcel; drop function note_move; drop table move"


@pytest.fixture
def moves():
    superuser = run.postgres.conninfo(run.DATABASE_NAME, "postgres")
    with psycopg.connect(superuser, autocommit=True) as connection:
        connection.execute(WATCH)
        yield connection
        connection.execute(UNWATCH)


class Machine(RuleBasedStateMachine):
    """A handful of works of one tenant in two lanes, and drainers that come and go."""

    watch: psycopg.Connection
    claims = Bundle("claims")
    stale = Bundle("stale")

    @initialize()
    def begin(self) -> None:
        withdraw_everything()
        self.engine = Engine()
        self.watch.execute("truncate move")
        self.tenant = self.engine.tenant()
        self.me = self.engine.drainer()
        self.works: list = []

    def teardown(self) -> None:
        if hasattr(self, "engine"):
            self.engine.close()

    def rows(self):
        return Parcel.objects.using("operator").filter(pk__in=self.works)

    def some(self, state: State):
        return self.rows().filter(state=state).order_by("pk").first()

    # ---- What callers and operators do ----

    @rule(lane=st.integers(0, LANES - 1), budget=st.integers(1, 4))
    def enqueue(self, lane: int, budget: int) -> None:
        (work,) = self.engine.add(
            tenant=self.tenant, lane=f"lane:{self.tenant}:{lane}", max_attempts=budget
        )
        self.works.append(work.pk)

    @rule(lane=st.integers(0, LANES - 1))
    def schedule(self, lane: int) -> None:
        (work,) = self.engine.add(
            tenant=self.tenant,
            lane=f"lane:{self.tenant}:{lane}",
            state="scheduled",
            due_at=datetime.now(UTC) + timedelta(hours=1),
        )
        self.works.append(work.pk)

    @rule(act=st.sampled_from([services.replay, services.discard]))
    def resolve(self, act) -> None:
        letter = DeadLetter.objects.using("operator").filter(
            work_id__in=self.works, resolved_at=None
        )
        if first := letter.first():
            act(dead_letter=first, actor="operator:1", reason="because")

    @rule(nth=st.integers(0, 5))
    def cancel(self, nth: int) -> None:
        if nth < len(self.works):
            state = self.rows().get(pk=self.works[nth]).state
            try:
                services.cancel(
                    queue="parcels", work_id=self.works[nth], actor="operator:1", reason="because"
                )
            except StaleState:
                assert state in {*LEASED, *FINISHED}

    @rule(lane=st.integers(0, LANES - 1), pause=st.booleans())
    def hold(self, lane: int, pause: bool) -> None:
        key = f"lane:{self.tenant}:{lane}"
        if pause:
            until = datetime.now(UTC) + timedelta(hours=1)
            lanes.pause(
                key=key, tenant_id=self.tenant, until=until, actor="operator:1", reason="because"
            )
        else:
            lanes.resume(key=key, tenant_id=self.tenant, actor="operator:1")

    # ---- What time and drainers do ----

    @rule()
    def look(self) -> None:
        self.rows().filter(state__in=["scheduled", "failed"]).update(due_at="2026-01-01T00:00Z")
        self.engine.look()
        assert not self.rows().filter(state__in=["scheduled", "failed"]).exists()

    @rule(target=claims, slots=st.integers(1, 6))
    def claim(self, slots: int):
        return self.engine.claim(drainer=self.me, slots=slots)

    @rule(target=claims)
    def claim_undo(self):
        self.rows().filter(state="discarding").update(due_at="2026-01-01T00:00Z")
        return self.engine.claim_undo(drainer=self.me)

    @rule(target=stale, held=consumes(claims), outcome=OUTCOMES)
    def settle(self, held, outcome):
        ours = [claim for claim in held if self.still_ours(claim)]
        assert self.engine.settle(*((claim, outcome) for claim in held)) == len(ours)
        return held

    @rule(target=stale, held=consumes(claims))
    def hand_back(self, held):
        self.engine.hand_back(*held)
        return held

    @rule(held=stale, outcome=OUTCOMES)
    def settle_what_is_not_ours_any_more(self, held, outcome) -> None:
        before = list(self.rows().order_by("pk").values_list())
        assert self.engine.settle(*((claim, outcome) for claim in held)) == 0
        assert list(self.rows().order_by("pk").values_list()) == before

    @rule(target=claims)
    def die(self):
        """The drainer falls silent and is rescued from; another one takes the works over."""
        held = self.rows().filter(drainer=self.me).count()
        self.engine.silence(self.me)
        assert self.engine.rescue() == held
        assert self.engine.claim(drainer=self.me) == []
        self.me = self.engine.drainer()
        return self.engine.claim(drainer=self.me)

    @precondition(lambda self: hasattr(self, "me"))
    @rule()
    def be_declared_dead(self) -> None:
        assert self.engine.rescue() == 0  # It beats.

    def still_ours(self, claim) -> bool:
        return self.rows().filter(pk=claim.id, lease=claim.lease).exists()

    # ---- What always holds ----

    @invariant()
    def only_the_drawn_moves_are_made(self) -> None:
        if not hasattr(self, "engine"):
            return
        made = set(self.watch.execute("select distinct old, new from move").fetchall())
        assert made <= {(str(start), str(end)) for start, end in TRANSITIONS}

    @invariant()
    def every_work_is_accounted_for(self) -> None:
        if not hasattr(self, "engine"):
            return
        rows = list(self.rows())
        assert len(rows) == len(self.works)
        tried = Counter(
            Attempt.objects.using("operator")
            .filter(work_id__in=self.works)
            .values_list("work_id", flat=True)
        )
        for work in rows:
            held = work.lease is not None
            assert held == (work.drainer is not None)
            assert held <= (work.state in LEASED)
            assert work.state != "processing" or held
            assert work.attempts == tried[work.pk] + held
            assert work.attempts <= work.max_attempts
            assert 0 <= work.losses < POISONOUS or work.state == "dead_letter"
            assert (work.finished_at is not None) == (work.state in FINISHED)

    @invariant()
    def caps_are_kept(self) -> None:
        if not hasattr(self, "engine"):
            return
        processing = self.rows().filter(state="processing")
        assert processing.count() <= queue("parcels").tenant_window
        for lane in range(LANES):
            of_lane = processing.filter(lane=f"lane:{self.tenant}:{lane}").count()
            assert of_lane <= queue("parcels").lane_window

    @invariant()
    def the_dead_have_one_open_letter_each_and_every_death_is_audited(self) -> None:
        if not hasattr(self, "engine"):
            return
        dead = set(self.rows().filter(state="dead_letter").values_list("pk", flat=True))
        letters = DeadLetter.objects.using("operator").filter(work_id__in=self.works)
        assert Counter(
            letters.filter(resolved_at=None).values_list("work_id", flat=True)
        ) == dict.fromkeys(dead, 1)
        deaths = AuditEntry.objects.using("operator").filter(
            action="work.dead_lettered", target__in=[f"parcels:{work}" for work in self.works]
        )
        assert deaths.count() == letters.count()


def test_no_sequence_of_events_breaks_the_machine(moves):
    long = os.environ.get("SLIPWAY_CHAOS") == "long"
    Machine.watch = moves
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=500 if long else 20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

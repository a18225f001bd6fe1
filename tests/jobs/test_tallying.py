"""What works come to is counted in the transaction that moves them: once for each move."""

import pytest
from django.db import connection, transaction

from jobs import services, shutting, tallying
from jobs.models import Job
from jobs.outcomes import Fail, Retry, Snooze, Succeeded, Unknown, Withdrawn
from jobs.registry import queue
from tests.jobs.conftest import letter_of
from tests.works.models import Bundle, Missive, Parcel

SAID = {"actor": "operator:1", "reason": "because"}


class Counted:
    """Missives of one lane, and what is known of them."""

    def __init__(self, engine, count: int, **columns) -> None:
        self.engine = engine
        self.works = engine.add(Missive, count, **columns)
        self.lane, self.tenant = self.works[0].lane, self.works[0].tenant_id
        Bundle.objects.using("operator").create(lane=self.lane, total=count)

    @property
    def ended(self) -> int:
        return Bundle.objects.using("operator").get(lane=self.lane).ended

    @property
    def told_over(self) -> int:
        jobs = Job.objects.using("operator").filter(tenant_id=self.tenant, kind="notice")
        return jobs.filter(args__what="over").count()

    def claims(self):
        claims = []
        me = self.engine.drainer()
        while more := self.engine.claim("missives", drainer=me):
            claims += more
        return claims


@pytest.fixture
def counted(engine):
    yield lambda count=1, **columns: Counted(engine, count, **columns)
    Bundle.objects.using("operator").all().delete()
    Job.objects.using("operator").filter(kind="notice").delete()


def test_each_end_is_counted_once_and_what_goes_on_is_not(engine, counted):
    ends = [
        Succeeded(),
        Fail("never"),
        Unknown("no answer"),
        Withdrawn("not wanted"),
        Retry("later"),
        Snooze(60, "not now"),
    ]
    bundle = counted(len(ends))
    engine.settle(*zip(bundle.claims(), ends, strict=True))
    assert bundle.ended == 4
    assert bundle.told_over == 0


def test_whoever_brings_the_last_one_to_its_end_has_a_job_made_and_nobody_else(engine, counted):
    bundle = counted(3)
    first, *others = bundle.claims()
    engine.settle((first, Succeeded()))
    assert bundle.told_over == 0
    engine.settle(*((claim, Succeeded()) for claim in others))
    assert bundle.told_over == 1
    assert engine.settle((first, Succeeded())) == 0  # It is not ours any more.
    assert (bundle.ended, bundle.told_over) == (3, 1)


def test_what_a_dead_drainer_lost_is_counted_when_it_is_rescued(engine, counted):
    bundle = counted(2)
    (one, *_) = bundle.claims()
    engine.silence(one.drainer)
    engine.rescue()
    assert bundle.ended == 2  # Nobody knows whether they were sent.


def test_a_replay_takes_back_what_was_counted(engine, counted):
    bundle = counted(1)
    engine.settle(*((claim, Fail("never")) for claim in bundle.claims()))
    assert bundle.ended == 1
    services.replay(dead_letter=letter_of(bundle.works[0]), **SAID)
    assert bundle.ended == 0
    engine.settle(*((claim, Succeeded()) for claim in bundle.claims()))
    assert bundle.ended == 1


def test_what_is_cancelled_or_skipped_is_counted(engine, counted):
    bundle = counted(2)
    services.cancel(queue="missives", work_id=bundle.works[0].pk, **SAID)
    services.skip(queue="missives", work_id=bundle.works[1].pk, **SAID)
    assert (bundle.ended, bundle.told_over) == (2, 1)


def test_what_a_shut_lane_holds_is_counted_when_it_is_given_up(engine, counted):
    bundle = counted(3)
    where = {"queue": "missives", "tenant_id": bundle.tenant, "lane": bundle.lane}
    assert shutting.hold(**where) == 3
    assert bundle.ended == 0
    assert shutting.overflow(**where, keep=1) == 2
    assert bundle.ended == 2
    assert shutting.release(**where) == 1
    assert bundle.ended == 2


def test_what_is_rolled_back_is_not_counted(engine, counted):
    bundle = counted(1)
    with transaction.atomic(using="operator"):
        services.cancel(queue="missives", work_id=bundle.works[0].pk, **SAID)
        transaction.set_rollback(True, using="operator")
    assert bundle.ended == 0


def test_where_nobody_counts_no_statement_is_sent(django_assert_num_queries):
    moves = [(Parcel().pk, "pending", "succeeded")]
    with django_assert_num_queries(0, connection=connection):
        tallying.tally(queue("parcels"), moves, "default")
        tallying.tally(queue("missives"), [], "default")

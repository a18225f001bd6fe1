"""Queues whose lanes are watched, and what there is to see of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from django.conf import settings

from jobs.breaker import Breaker
from jobs.models import Job, Lane
from jobs.outcomes import Retry
from jobs.registry import queue
from jobs.retry import RetryPolicy
from tests.works.models import Parcel

BREAKER = Breaker(failures=3, pauses=(30.0, 60.0, 120.0))
WINDOWED = RetryPolicy(attempts=3, base=0.01, cap=0.02, window=3600)


@contextmanager
def watching(name: str, monkeypatch, **changes) -> Iterator[None]:
    """Change a queue's settings; its notices are gone afterwards."""
    with monkeypatch.context() as patch:
        spec = settings.SLIPWAY["QUEUES"][name] | changes
        patch.setitem(settings.SLIPWAY["QUEUES"], name, spec)
        queue.cache_clear()
        yield
    queue.cache_clear()
    Job.objects.using("operator").filter(kind="notice").delete()


def claimed(engine, count=1, **columns):
    """Parcels of one lane in the hands of one drainer: their claims, in the order of their ids."""
    tenant = columns.pop("tenant", None) or engine.tenant()
    works = engine.add(Parcel, count, tenant=tenant, max_attempts=20, **columns)
    claims = {claim.id: claim for claim in engine.claim(drainer=engine.drainer(), slots=count)}
    return [claims[work.pk] for work in works]


def opened(engine):
    """A lane whose breaker has opened, whose pause is over, and where works wait; a claim of it."""
    claims = claimed(engine, 3)
    fail(engine, claims)
    over(lane_of(claims[0]))
    engine.add(tenant=claims[0].tenant_id, count=4, max_attempts=20)
    return claims[0]


def fail(engine, claims, outcome=None):
    engine.settle(*((claim, outcome or Retry("503 from a.test")) for claim in claims))


def lane_of(claim) -> Lane | None:
    return Lane.objects.using("operator").filter(tenant_id=claim.tenant_id, key=claim.lane).first()


def pause_left(lane: Lane) -> float:
    return (lane.paused_until - datetime.now(UTC)).total_seconds()


def over(lane: Lane) -> None:
    """Let the breaker's pause be over."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    Lane.objects.using("operator").filter(pk=lane.pk).update(paused_until=past, opened_until=past)


def notices(claim) -> list[dict]:
    jobs = Job.objects.using("operator").filter(kind="notice", tenant_id=claim.tenant_id)
    return [job.args for job in jobs.order_by("id")]


def told(claim) -> list[str]:
    return [args["what"] for args in notices(claim)]

"""Finished jobs are kept for a while, for whoever asks what happened, and then deleted.

Only jobs: a sign-up's row is what its address and its idempotency key rest on, and stays. What was
tried is in the attempts, whose partitions go at an age of their own (jobs.partitions).
"""

from datetime import timedelta

from django.conf import settings
from django.db import connections
from django.utils import timezone

from jobs.models import Job
from jobs.states import FINISHED

AT_ONCE = 1000  # Rows in one transaction, so that nobody waits for its locks.
OPERATOR = "operator"

# By the index on finished_at, oldest first. A row that somebody holds is left for the next time.
DELETE = """
delete from jobs_job where id in (
  select id from jobs_job
  where finished_at < %s and state = any(%s)
  order by finished_at limit %s for update skip locked)
"""


def keep_days() -> int:
    """For how many days a finished job is kept: SLIPWAY["RETENTION"]["works"], or 30."""
    return int(settings.SLIPWAY["RETENTION"].get("works", 30))


def prunable(*, days: int) -> int:
    """How many jobs were finished more than `days` ago."""
    before = timezone.now() - timedelta(days=days)
    jobs = Job._default_manager.using(OPERATOR)
    return jobs.filter(state__in=FINISHED, finished_at__lt=before).count()


def prune(*, days: int) -> int:
    """Delete the jobs that were finished more than `days` ago, batch by batch; says how many."""
    before = timezone.now() - timedelta(days=days)
    states = [str(state) for state in FINISHED]
    pruned = 0
    while True:
        with connections[OPERATOR].cursor() as cursor:
            cursor.execute(DELETE, [before, states, AT_ONCE])
            count: int = cursor.rowcount
        pruned += count
        if count < AT_ONCE:
            return pruned

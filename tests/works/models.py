"""A queue of each sort: ordered and undone, never to happen twice, paced and counted."""

from django.db import models

from jobs.models import Work
from jobs.states import State


class Parcel(Work):
    """Ordered lanes, and an undo step."""

    claimed = ("act",)
    patchable = ("result",)
    ordered = True

    act = models.CharField(max_length=200, default="succeed", db_default="succeed")
    result = models.CharField(max_length=10, default="", db_default="")


class Telegram(Work):
    """Must not be sent twice."""

    claimed = ("act",)
    never_twice = True

    act = models.CharField(max_length=200, default="succeed", db_default="succeed")


class Missive(Work):
    """Paced by where it goes, not to be sent twice, and counted."""

    claimed = ("act", "rate", "most", "mode")
    patchable = ("act",)
    destination = "goes_to"
    never_twice = True
    replayable = (State.DEAD_LETTER, State.UNKNOWN)
    tally = """
with change as (
  select m.tenant_id, m.lane,
    count(*) filter (where g.after in ('succeeded', 'dead_letter', 'unknown', 'cancelled'))
      - count(*) filter (where g.before in ('succeeded', 'dead_letter', 'unknown', 'cancelled'))
      as ended
  from json_to_recordset(%s::json) g(id uuid, before text, after text)
  join works_missive m on m.id = g.id group by 1, 2 order by 1, 2
), counted as (
  update works_bundle b set ended = b.ended + change.ended from change
  where b.lane = change.lane and change.ended <> 0
  returning change.tenant_id, b.lane, b.ended = b.total as over
)
insert into jobs_job (id, tenant_id, lane, kind, args, max_attempts)
select slipway.uuid7(), tenant_id, 'jobs:' || tenant_id, 'notice',
  json_build_object('what', 'over', 'lane', lane), 3
from counted where over
"""

    act = models.CharField(max_length=200, default="succeed", db_default="succeed")
    goes_to = models.CharField(max_length=50, default="there", db_default="there", db_collation="C")
    rate = models.FloatField(null=True)
    most = models.IntegerField(null=True)
    mode = models.CharField(max_length=10, default="adaptive", db_default="adaptive")


class Bundle(models.Model):
    """Missives of one lane, and how many have come to their end."""

    lane = models.CharField(max_length=100, primary_key=True)
    total = models.IntegerField()
    ended = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.lane


class Trace(models.Model):
    """What the steps of the tests did, in which process and under which lease."""

    id = models.BigAutoField(primary_key=True)
    work_id = models.UUIDField()
    lease = models.BigIntegerField()
    attempt = models.IntegerField()
    pid = models.IntegerField()
    what = models.CharField(max_length=20)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.what} {self.work_id} in {self.pid}"

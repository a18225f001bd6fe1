"""A queue of each sort: ordered lanes with an undo step, and works that must not happen twice."""

from django.db import models

from jobs.models import Work


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

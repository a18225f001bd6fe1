"""Move a tenant whose guests change chairs all the while to a schema of its own, and back.

Run as a process in whose settings the extension is; a drainer runs beside it. Prints what there was
in the end, in each home.
"""

import json
import sys
import time
from itertools import pairwise

import django

django.setup()

from django.db import DatabaseError, connections, transaction  # noqa: E402

from config.problems import is_moving  # noqa: E402
from lifecycle import plans  # noqa: E402
from lifecycle.models import PlanMove  # noqa: E402
from tenants.context import tenant_context  # noqa: E402
from tests.conftest import create_tenant  # noqa: E402
from tests.parlour.models import Guest  # noqa: E402

DEADLINE = time.monotonic() + 240
TENANT = create_tenant("pooled")
STRANGER = create_tenant("pooled")


def sit(tenant, names) -> list[Guest]:
    """Guests, each of whom brought the one before: the first points at one that comes later."""
    guests = [Guest.objects.create(name=name, chair=chair) for chair, name in enumerate(names)]
    for guest, bringer in pairwise(guests):
        Guest.objects.filter(pk=guest.pk).update(brought_by=bringer)
    return guests


def swap(first: Guest, last: Guest) -> None:
    """They change chairs."""
    try:
        with tenant_context(TENANT), transaction.atomic():
            chairs = dict(
                Guest.objects.filter(pk__in=[first.pk, last.pk]).values_list("pk", "chair")
            )
            Guest.objects.filter(pk=first.pk).update(chair=-1)
            Guest.objects.filter(pk=last.pk).update(chair=chairs[first.pk])
            Guest.objects.filter(pk=first.pk).update(chair=chairs[last.pk])
    except DatabaseError as error:
        if not is_moving(error):
            raise


def move(plan: str, guests: list[Guest]) -> list:
    made = plans.start(tenant_id=TENANT.pk, plan=plan, actor="system:test", reason="A test.")
    while PlanMove.objects.using("operator").filter(pk=made.pk, finished_at=None).exists():
        if time.monotonic() > DEADLINE:
            raise SystemExit(f"{vars(PlanMove.objects.using('operator').get(pk=made.pk))}")
        swap(guests[0], guests[-1])
        time.sleep(0.05)
    TENANT.refresh_from_db(using="operator")
    with tenant_context(TENANT):
        Guest.objects.create(name=f"after {plan}", chair=100 + Guest.objects.count())
    return rows(TENANT.search_schema)


def rows(schema: str) -> list:
    with connections["operator"].cursor() as cursor:
        cursor.execute(
            f"select g.name, g.shouted, b.name from {schema}.parlour_guest g"
            f" left join {schema}.parlour_guest b on b.id = g.brought_by_id"
            " where g.tenant_id = %s order by g.id",
            [TENANT.pk],
        )
        return [list(row) for row in cursor.fetchall()]


if __name__ == "__main__":
    with tenant_context(STRANGER):
        sit(STRANGER, ["x", "y"])
    with tenant_context(TENANT):
        seated = sit(TENANT, ["ann", "bob", "cem", "dov"])
    there = move("pro", seated)
    left = rows("pool")
    back = move("free", seated)
    with tenant_context(STRANGER):
        others = Guest.objects.count()
    json.dump({"there": there, "left": left, "back": back, "others": others}, sys.stdout)

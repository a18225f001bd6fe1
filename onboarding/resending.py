"""The welcome mail once more, for an owner who lost it: one mail an address a day, as ever."""

from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from config.problems import RateLimited
from jobs.models import Job
from jobs.services import enqueue
from jobs.states import FINISHED, State
from onboarding.errors import AlreadyActivated
from onboarding.models import PendingOnboarding
from onboarding.services import authorised, owner_has_come
from onboarding.steps.welcome import digest
from tenants import audit
from tenants.context import NOWHERE, TenantRef, tenant_context

_SOON = 60.0  # Seconds, when a mail is on its way and nobody knows how long that takes.


def resend(*, request_id: UUID, token: str) -> None:
    """Have the welcome mail sent again, by a job.

    Raises BadClaim, UnknownRequest, NotReady; AlreadyActivated; RateLimited while the address had
    one within a day, or one is on its way.
    """
    row = authorised(request_id=request_id, token=token)
    with tenant_context(TenantRef(row.tenant_id, NOWHERE)), transaction.atomic():
        if owner_has_come():
            raise AlreadyActivated
        email = PendingOnboarding.objects.values_list("email", flat=True).get(pk=request_id)
        if wait := max(_until_the_address_may(email), _until_the_one_on_its_way()):
            raise RateLimited(
                "One mail an address a day.", headers={"Retry-After": str(max(1, round(wait)))}
            )
        enqueue(
            "onboarding.welcome",
            tenant_id=row.tenant_id,
            args={"request_id": str(request_id), "again": True},
        )
        audit.record(
            actor=f"claim:{request_id}",
            action="welcome.resent",
            target=f"onboarding:{request_id}",
            tenant_id=row.tenant_id,
        )


def _until_the_address_may(email: str) -> float:
    """Seconds until the address may have another welcome mail; 0 when it may."""
    with connection.cursor() as cursor:
        cursor.execute("select slipway.welcome_wait(%s)", [digest(email)])
        return float(cursor.fetchone()[0])


def _until_the_one_on_its_way() -> float:
    """Seconds until a mail that waits as a job is tried; 0 when there is none."""
    jobs = Job.objects.filter(kind="onboarding.welcome")
    waiting = jobs.exclude(state__in=[*FINISHED, State.DEAD_LETTER]).order_by("due_at").first()
    if waiting is None:
        return 0.0
    return max(_SOON, (waiting.due_at - timezone.now()).total_seconds())

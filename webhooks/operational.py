"""What is told about webhooks themselves, and the disabling of endpoints that nobody answers at.

The engine leaves a job `webhooks.notice` in the transaction that settles (jobs.engine.notices):
this is its step. What it tells goes to the tenant's and the platform's endpoints as an event, and
to the tenant's owners as a mail, one an endpoint and matter a day. The platform's own endpoints are
in the audit trail; nobody is mailed about them.

Operational events never beget operational events: their deliveries are quiet (Delivery.carried), so
that the engine leaves no notice of them, and whatever notice comes is looked at again here. Only
`endpoint.disabled` is told of whatever made it, once for each time that somebody enabled it.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from django.conf import settings
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from config.ids import format_id
from jobs.fence import hold
from jobs.models import Lane
from jobs.outcomes import Fail, Outcome, Succeeded
from jobs.services import OPERATOR, enqueue
from jobs.steps import Claim
from tenants import hosts
from tenants.context import PLATFORM_ID, TenantRef, tenant_context
from tenants.models import Membership, Tenant
from webhooks import endpoints
from webhooks.errors import EndpointNotFound
from webhooks.health import blocking, health
from webhooks.models import OPERATIONAL, Delivery, Endpoint
from webhooks.services import publish

ACTOR = "system:webhooks"
_PREFIX = "endpoint:"
_WHY = {
    Endpoint.Disabled.GONE: "It answered 410 Gone.",
    Endpoint.Disabled.FAILING: "It has only failed for days.",
}


def notice(claim: Claim) -> Outcome:
    """The job `webhooks.notice`: {"lane", "what", "works", "count", "failing_since", "reason"}."""
    args = claim.data["args"]
    steps = {
        "gone": _gone,
        "opened": _failing,  # The lane's row shows the open breaker; nobody is told.
        "exhausted": _exhausted,
        "recovered": _recovered,
        "disabled": _disabled,
    }
    step = steps.get(args["what"])
    if step is None:
        return Fail(f"there is no notice {args['what']!r}")
    try:
        step(claim, UUID(args["lane"].removeprefix(_PREFIX)), args)
    except EndpointNotFound:  # Deleted meanwhile: it is nobody's matter any more.
        return Succeeded()
    return Succeeded()


def disable(*, tenant: TenantRef, endpoint_id: UUID, because: Endpoint.Disabled) -> bool:
    """Disable an endpoint without anybody's asking, and have it told. Raises EndpointNotFound.

    Says whether it changed anything. Telling is a job of its own: publishing locks endpoints too.
    """
    with tenant_context(tenant), transaction.atomic():
        since = _failing_since(endpoint_id)
        changed = endpoints.disable(
            tenant=tenant,
            endpoint_id=endpoint_id,
            actor=ACTOR,
            reason=_WHY[because],
            because=because,
        )
        if changed:
            lane = f"{_PREFIX}{endpoint_id}"
            told = {"lane": lane, "what": "disabled", "failing_since": since}
            enqueue("webhooks.notice", tenant_id=tenant.id, args=told)
    return changed


def tell_overflow(
    *, tenant: TenantRef, endpoint_id: UUID, works: Sequence[UUID], count: int
) -> None:
    """Have it told that an endpoint held more than is kept; `works` are the first of these."""
    enqueue(
        "webhooks.notice",
        tenant_id=tenant.id,
        args={
            "lane": f"{_PREFIX}{endpoint_id}",
            "what": "exhausted",
            "works": [str(work) for work in works],
            "count": count,
            "reason": "overflow",
            "failing_since": None,
        },
        using=OPERATOR,
    )


def disable_if_failing(*, tenant: TenantRef, endpoint_id: UUID) -> bool:
    """Disable an endpoint that has only failed for SLIPWAY["WEBHOOKS"]["disable_after"].

    What says so is in its lane's row: when the failing began, and when it last failed. A success
    between would have ended it. Raises EndpointNotFound.
    """
    after = timedelta(seconds=settings.SLIPWAY["WEBHOOKS"]["disable_after"])
    with tenant_context(tenant):
        lane = Lane.objects.filter(key=f"{_PREFIX}{endpoint_id}").first()
    if lane is None or lane.failing_since is None or lane.failed_at is None:
        return False
    if lane.failed_at - lane.failing_since < after:
        return False
    because = Endpoint.Disabled.FAILING
    return disable(tenant=tenant, endpoint_id=endpoint_id, because=because)


# ---- What each notice does ----


def _gone(claim: Claim, endpoint_id: UUID, args: Mapping[str, Any]) -> None:
    disable(tenant=claim.tenant, endpoint_id=endpoint_id, because=Endpoint.Disabled.GONE)


def _failing(claim: Claim, endpoint_id: UUID, args: Mapping[str, Any]) -> None:
    disable_if_failing(tenant=claim.tenant, endpoint_id=endpoint_id)


def _exhausted(claim: Claim, endpoint_id: UUID, args: Mapping[str, Any]) -> None:
    works = _loud(claim.tenant, args["works"])
    if works:
        count = args["count"] - (len(args["works"]) - len(works))
        said = {
            "deliveries": [format_id("dlv", work) for work in works],
            "count": count,
            "reason": args["reason"],
            "blocked_by": _blocking(claim.tenant, endpoint_id),
        }
        _tell(claim, endpoint_id, "delivery.exhausted", said)
    disable_if_failing(tenant=claim.tenant, endpoint_id=endpoint_id)


def _blocking(tenant: TenantRef, endpoint_id: UUID) -> str | None:
    """The dead one that the others of an ordered endpoint wait for. Raises EndpointNotFound."""
    with tenant_context(tenant):
        blocked_by = blocking(endpoints.find(endpoint_id))
    return format_id("dlv", blocked_by) if blocked_by else None


def _recovered(claim: Claim, endpoint_id: UUID, args: Mapping[str, Any]) -> None:
    if _loud(claim.tenant, args["works"]):
        said = {"failing_since": args["failing_since"]}
        _tell(claim, endpoint_id, "delivery.recovered", said)


def _disabled(claim: Claim, endpoint_id: UUID, args: Mapping[str, Any]) -> None:
    with tenant_context(claim.tenant):
        endpoint = endpoints.find(endpoint_id)
        held = health(endpoint).held
    if endpoint.disabled_at is None:  # Somebody was quicker than the news.
        return
    said = {
        "reason": endpoint.disabled_reason,
        "disabled_at": _stamp(endpoint.disabled_at),
        "failing_since": args["failing_since"],
        "held": held,
    }
    _tell(claim, endpoint_id, "endpoint.disabled", said)


def _loud(tenant: TenantRef, works: list[str]) -> list[UUID]:
    """Of these deliveries, those that may be told of: no tests, and no operational events."""
    with tenant_context(tenant):
        rows = Delivery.objects.filter(pk__in=works, test=False)
        rows = rows.exclude(event__type__in=OPERATIONAL).order_by("id")
        return list(rows.values_list("pk", flat=True))


# ---- Telling ----


def _tell(claim: Claim, endpoint_id: UUID, type: str, said: Mapping[str, Any]) -> None:
    """Publish and mail, once for each notice, in one transaction. Raises EndpointNotFound."""
    with tenant_context(claim.tenant), transaction.atomic():
        hold(claim)
        endpoint = endpoints.find(endpoint_id)
        data = {
            "endpoint_id": format_id("ep", endpoint.pk),
            "host": endpoint.host,
            "description": endpoint.description,
            **said,
        }
        event = publish(
            tenant_id=claim.tenant_id,
            type=type,
            payload=data,
            idempotency_key=f"notice:{claim.id}",
        )
        if event is not None and claim.tenant_id != PLATFORM_ID:
            _mail(claim, endpoint, type, data)


def _mail(claim: Claim, endpoint: Endpoint, type: str, data: Mapping[str, Any]) -> None:
    """One mail to each owner. The path of the URL is in none: to some it is a password."""
    tenant = Tenant.objects.get(pk=claim.tenant_id)
    words = {
        **data,
        "tenant_name": tenant.name,
        "tenant_url": hosts.tenant_url(tenant.slug),
        "why": _WHY.get(Endpoint.Disabled(endpoint.disabled_reason), "")
        if endpoint.disabled_reason
        else "",
    }
    name = type.replace(".", "_")
    subject = render_to_string(f"webhooks/{name}_subject.txt", words)
    text = render_to_string(f"webhooks/{name}.txt", words)
    for user_id, address in owners(claim.tenant_id):
        enqueue(
            "mail.send",
            tenant_id=claim.tenant_id,
            args={
                "to": [address],
                "subject": " ".join(subject.split()),
                "text": text,
                # RFC 3834: a holiday reply to this mail helps nobody.
                "headers": {"Auto-Submitted": "auto-generated"},
            },
            # The job's id is made of what it is about: again, on the same day, is nothing.
            once=uuid5(endpoint.pk, f"{type} {timezone.now().date()} {user_id}"),
        )


def owners(tenant_id: int) -> list[tuple[UUID, str]]:
    """The owners who have joined, and their addresses."""
    members = Membership.objects.filter(
        tenant_id=tenant_id, role=Membership.Role.OWNER, accepted_at__isnull=False
    )
    return list(members.values_list("user_id", "user__email"))


def _failing_since(endpoint_id: UUID) -> str | None:
    lane = Lane.objects.filter(key=f"{_PREFIX}{endpoint_id}").first()
    return _stamp(lane.failing_since) if lane and lane.failing_since else None


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()

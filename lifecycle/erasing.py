"""Erasing a person who uses Slipway: a member or owner of tenants, or an operator.

A customer of a tenant's is another matter: customers.erasing. Here the person's row goes, with
every membership, session, second factor and permission, and their address goes wherever else it is
kept: in sign-ups, in the note that a welcome mail was sent, in mails that wait or are dead, in
archives of those tenants. What stays are the ids in the audit trail and beside what the person did,
which lead to nobody any more.
"""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from django.apps import apps
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now

from jobs.models import DeadLetter, Job
from jobs.states import FINISHED, State
from lifecycle import exporting
from lifecycle.errors import PersonNotFound, SoleOwner
from onboarding.models import PendingOnboarding, WelcomeMail
from tenants import audit
from tenants.models import Membership, Session, User
from tenants.services import OPERATOR
from tenants.sessions import SessionStore
from tenants.states import TenantStatus

ERASED = "erased@erased.invalid"  # RFC 2606: reaches nobody.
MAIL = "mail.send"
# What django-axes keeps of tries to sign in to the console, where it is installed.
_SIGN_INS = ("AccessAttempt", "AccessLog", "AccessFailureLog")


@dataclass(slots=True)
class Erased:
    """What was, or would be, erased of a person: ids and numbers."""

    user: UUID
    tenants: int = 0  # Of which the person was a member.
    sessions: int = 0
    sign_ups: int = 0
    mails: int = 0  # That waited or were dead, and are withdrawn.
    sign_ins: int = 0
    archives: int = 0  # Of those tenants: they show the person, and are deleted.
    ownerless: list[str] = field(default_factory=list)  # Slugs: they have no other owner.

    def counts(self) -> dict[str, Any]:
        return asdict(self) | {"user": str(self.user)}


def look(*, email: str) -> Erased:
    """What there is of a person, by their address; changes nothing. Raises PersonNotFound."""
    return _look(_find(email))


def erase(*, email: str, actor: str, reason: str, ownerless: bool = False) -> Erased:
    """Erase a person. All of it is one transaction; archives' files go after its commit.

    A tenant in use needs an owner: whoever is its only one is erased when its platform says that it
    may be `ownerless`, or when it is closed. Raises PersonNotFound, SoleOwner.
    """
    with transaction.atomic(using=OPERATOR):
        user = _find(email, lock=True)
        found = _look(user)
        if found.ownerless and not ownerless:
            raise SoleOwner(f"Nobody else owns {', '.join(found.ownerless)}.")
        exporting.erase_from(_tenants(user))
        _sessions(user).delete()
        _sign_ups(user.email).update(email=ERASED)
        WelcomeMail.objects.using(OPERATOR).filter(address_digest=_digest(user.email)).delete()
        _withdraw_mails(user.email, actor=actor, reason=reason)
        for rows in _sign_ins(user.email):
            rows.delete()
        _record(user, found, actor=actor, reason=reason)
        user.delete(using=OPERATOR)
    return found


def _find(email: str, *, lock: bool = False) -> User:
    rows = User.objects.using(OPERATOR)
    found = (rows.select_for_update() if lock else rows).filter(email__iexact=email.strip()).first()
    if found is None:
        raise PersonNotFound
    return found


def _look(user: User) -> Erased:
    memberships = Membership.objects.using(OPERATOR).filter(user=user)
    return Erased(
        user=user.pk,
        tenants=memberships.count(),
        sessions=_sessions(user).count(),
        sign_ups=_sign_ups(user.email).count(),
        mails=_mails(user.email).count(),
        sign_ins=sum(rows.count() for rows in _sign_ins(user.email)),
        archives=exporting.finished(_tenants(user)).count(),
        ownerless=_owned_alone(user),
    )


def _tenants(user: User) -> set[int]:
    """Those whose rows name the person."""
    memberships = Membership.objects.using(OPERATOR).filter(user=user)
    named = (memberships, _sign_ups(user.email), _mails(user.email))
    return {pk for rows in named for pk in rows.values_list("tenant_id", flat=True)}


def _owned_alone(user: User) -> list[str]:
    """The tenants in use that have no other owner who has joined."""
    owners = Membership.objects.using(OPERATOR).filter(
        role=Membership.Role.OWNER, accepted_at__isnull=False
    )
    mine = owners.filter(user=user).exclude(tenant__status=TenantStatus.CLOSED)
    others = owners.exclude(user=user).values("tenant_id")
    return sorted(mine.exclude(tenant_id__in=others).values_list("tenant__slug", flat=True))


def _sessions(user: User) -> QuerySet[Session]:
    """The person's browsers. A row says whose it is only when it is decoded."""
    of = Membership.objects.using(OPERATOR).filter(user=user).values("tenant_id")
    rows = Session.objects.using(OPERATOR).filter(Q(tenant_id__in=of) | Q(tenant=None))
    store = SessionStore()
    keys = [
        key
        for key, data in rows.values_list("session_key", "session_data").iterator()
        if store.decode(data).get("_auth_user_id") == str(user.pk)
    ]
    return Session.objects.using(OPERATOR).filter(session_key__in=keys)


def _sign_ups(email: str) -> QuerySet[PendingOnboarding]:
    return PendingOnboarding.objects.using(OPERATOR).filter(email__iexact=email)


def _mails(email: str) -> QuerySet[Job]:
    """Mails to the address that were not sent: of those that were, nothing is kept."""
    jobs = Job.objects.using(OPERATOR).filter(kind=MAIL).exclude(state__in=FINISHED)
    return jobs.exclude(state=State.PROCESSING).filter(args__to__icontains=email)


def _withdraw_mails(email: str, *, actor: str, reason: str) -> None:
    """Cancel them, and take out what they say; a dead one's letter is resolved."""
    found = list(_mails(email).select_for_update().order_by("id").values_list("pk", "tenant_id"))
    ids = [pk for pk, _ in found]
    letters = DeadLetter.objects.using(OPERATOR).filter(queue="jobs", work_id__in=ids)
    letters.filter(resolved_at=None).update(
        resolved_at=Now(),
        resolved_by=actor,
        resolution=DeadLetter.Resolution.CANCELLED,
        why=reason[:500],
    )
    Job.objects.using(OPERATOR).filter(pk__in=ids).update(
        state=State.CANCELLED, finished_at=Now(), args={"erased": True}
    )
    for pk, tenant_id in found:
        audit.record(
            actor=actor,
            action="work.cancelled",
            target=f"jobs:{pk}",
            tenant_id=tenant_id,
            reason=reason,
            using=OPERATOR,
        )


def _sign_ins(email: str) -> list[QuerySet[Any]]:
    if not apps.is_installed("axes"):
        return []
    models = [apps.get_model("axes", name) for name in _SIGN_INS]
    return [
        model._default_manager.using(OPERATOR).filter(username__iexact=email) for model in models
    ]


def _digest(email: str) -> bytes:
    """As onboarding.steps.welcome.digest."""
    return hashlib.sha256(email.lower().encode()).digest()


def _record(user: User, found: Erased, *, actor: str, reason: str) -> None:
    """One entry of the platform's, and one in the trail of each tenant that loses a member."""
    target = f"{'operator' if user.is_staff else 'user'}:{user.pk}"
    memberships = Membership.objects.using(OPERATOR).filter(user=user)
    counts = {name: n for name, n in found.counts().items() if isinstance(n, int)}
    for tenant_id in (None, *memberships.values_list("tenant_id", flat=True)):
        audit.record(
            actor=actor,
            action="person.erased",
            target=target,
            tenant_id=tenant_id,
            reason=reason,
            after=counts if tenant_id is None else None,
            using=OPERATOR,
        )

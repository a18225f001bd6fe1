"""Sign-ups: taking them in, giving the first key away, letting the unverified go."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import orjson
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.module_loading import import_string
from msgspec import UNSET

from config import idempotency
from config.idempotency import IdempotencyKey
from jobs.services import wake_after_commit
from onboarding import claim_tokens, names, slugs
from onboarding.errors import (
    AlreadyClaimed,
    BadClaim,
    KeyReused,
    NotActivated,
    NotReady,
    PlanNotOpen,
    SlugTaken,
    UnknownRequest,
)
from onboarding.policy import POLICY
from onboarding.serializers import SignUp
from onboarding.states import Progress
from onboarding.status import SignUpRow, find
from tenants import keys
from tenants.auth import Caller
from tenants.context import NOWHERE, TenantRef, no_tenant, tenant_context
from tenants.keys import NewKey
from tenants.models import ApiKey, Membership
from tenants.postgres.connections import prepared
from tenants.scopes import TENANT_SCOPES

CLAIM_WINDOW = timedelta(minutes=15)
_TRIES = 5  # Conflicts that vanish while they are looked at: an address freed, a key expired.

_INSERT = """
insert into onboarding_pendingonboarding (
    id, slug, email, tenant_name, plan, home, external_id, metadata, locale, time_zone, caller,
    key_digest, fingerprint, max_attempts, created_at, due_at,
    tenant_id, lane, priority, state, attempts, losses, last_error
)
select %s::uuid, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s, %s,
    %s::bytea, %s::bytea, %s::smallint, %s::timestamptz, now(),
    drawn.id, 'onboarding:' || drawn.id, 0, 'pending', 0, 0, ''
from (select nextval('public.tenants_tenant_id_seq') as id) drawn
where not slipway.slug_has_tenant(%s)
on conflict do nothing
"""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A sign-up that was taken in, now or by an earlier request with the same key."""

    request_id: UUID
    slug: str
    created_at: datetime
    replayed: bool = False

    @property
    def claim_token(self) -> str:
        return claim_tokens.make(self.request_id, created_at=self.created_at)


def refuse_closed_plan(*, sign_up: SignUp, caller: Caller) -> None:
    """Raises PlanNotOpen when a stranger asks for a plan that only the platform opens."""
    plan = settings.SLIPWAY["PLANS"][sign_up.plan]
    if not caller.is_platform and not plan.get("anonymous", False):
        raise PlanNotOpen(f"The plan {sign_up.plan} is opened by the platform.")


def ask_project(*, sign_up: SignUp, caller: Caller, key: IdempotencyKey | None) -> Accepted | None:
    """Run the project's own check, if it has one: a captcha, a list of disposable domains.

    A replay is not checked again, since a captcha's answer is good for once: it is returned.
    Raises what the check raises.
    """
    own = settings.SLIPWAY.get("SIGN_UP_CHECK")
    if not own:
        return None
    with no_tenant():
        earlier = replay(key=key, fingerprint=fingerprint(sign_up))
    if earlier is None:
        import_string(own)(sign_up, caller)
    return earlier


def accept(*, sign_up: SignUp, caller: Caller, key: IdempotencyKey | None) -> Accepted:
    """Take a sign-up in: one insert, nothing slow.

    Raises SlugTaken, KeyReused.
    """
    body = fingerprint(sign_up)
    named = sign_up.slug is not UNSET
    slug = str(sign_up.slug) if named else slugs.from_name(sign_up.tenant_name)
    with no_tenant():
        for _ in range(_TRIES):
            accepted = Accepted(uuid4(), slug, timezone.now())
            if _insert(accepted, sign_up, caller, key, body):
                wake_after_commit("onboarding")
                return accepted
            # A second statement on purpose: the insert's snapshot cannot see the row that won.
            if (earlier := replay(key=key, fingerprint=body)) is not None:
                return earlier
            if named:
                _refuse_if_taken(slug)
            else:
                slug = slugs.with_chance(slug)
    raise SlugTaken(suggestions=[])


def fingerprint(sign_up: SignUp) -> bytes:
    """SHA-256 of the request: what two requests with one key must share."""
    return hashlib.sha256(b"POST /v1/onboard\n" + sign_up.canonical()).digest()


def replay(*, key: IdempotencyKey | None, fingerprint: bytes) -> Accepted | None:
    """What was accepted with this key before; None when nothing was.

    Raises KeyReused when it was another request.
    """
    if key is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            "select id, slug, created_at, fingerprint from slipway.onboarding_by_key(%s, %s)",
            [key.digest, timezone.now() - idempotency.KEPT],
        )
        row = cursor.fetchone()
    if row is None:
        return None
    request_id, slug, created_at, before = row
    if not secrets.compare_digest(bytes(before), fingerprint):
        raise KeyReused
    return Accepted(request_id, slug, created_at, replayed=True)


def claim(*, request_id: UUID, token: str) -> tuple[SignUpRow, NewKey[ApiKey]]:
    """Give the tenant's first key to who signed it up.

    At once to the platform; to strangers after the owner activated the account, which proves the
    address. Again within CLAIM_WINDOW, until the key is used; the one before then ends.
    Raises BadClaim, UnknownRequest, NotReady, NotActivated, AlreadyClaimed.
    """
    row = authorised(request_id=request_id, token=token)
    with tenant_context(TenantRef(row.tenant_id, NOWHERE)) as ref, transaction.atomic():
        if row.caller == "anonymous" and not owner_has_come():
            raise NotActivated("Open the link in the welcome mail first.")
        _end_earlier_claims(ref, actor=f"claim:{request_id}")
        made = keys.create(
            tenant=ref,
            name="First key",
            scopes=TENANT_SCOPES,
            actor=f"claim:{request_id}",
            reason="Claimed with the token of the sign-up.",
        )
    return row, made


def _insert(
    accepted: Accepted,
    sign_up: SignUp,
    caller: Caller,
    key: IdempotencyKey | None,
    fingerprint: bytes,
) -> bool:
    """Whether the row is new. Takes one statement, and no RETURNING, which RLS would refuse."""
    values = [
        accepted.request_id,
        accepted.slug,
        sign_up.email,
        names.tidy(sign_up.tenant_name),
        sign_up.plan,
        settings.SLIPWAY["PLANS"][sign_up.plan]["home"],
        sign_up.external_id or "",
        orjson.dumps(sign_up.metadata).decode(),
        sign_up.locale,
        sign_up.time_zone,
        caller.actor,
        key.digest if key else None,
        fingerprint,
        POLICY.attempts,
        accepted.created_at,
        accepted.slug,
    ]
    with connection.cursor() as cursor, prepared(connection):
        cursor.execute(_INSERT, values)
        return bool(cursor.rowcount)


def _refuse_if_taken(slug: str) -> None:
    """Raises SlugTaken, with free addresses near it."""
    candidates = slugs.suggestions(slug)
    taken = _taken([slug, *candidates])
    if slug in taken:
        free = [candidate for candidate in candidates if candidate not in taken]
        raise SlugTaken("Choose another address.", suggestions=free[:3])


def _taken(wanted: Sequence[str]) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("select slipway.slugs_taken(%s::text[])", [list(wanted)])
        return {slug for (slug,) in cursor.fetchall()}


def authorised(*, request_id: UUID, token: str) -> SignUpRow:
    """The sign-up that a claim token is for, when it is ready.

    Raises BadClaim, UnknownRequest, NotReady.
    """
    if not claim_tokens.is_valid(token, request_id, now=timezone.now()):
        raise BadClaim(headers={"WWW-Authenticate": 'Bearer realm="slipway claim"'})
    row = find(request_id)
    if row is None:
        raise UnknownRequest
    if row.progress != Progress.READY:
        raise NotReady(headers={"Retry-After": str(row.retry_after or 5)})
    return row


def owner_has_come() -> bool:
    """Whether the current tenant's owner activated the account and joined."""
    owners = Membership.objects.filter(role=Membership.Role.OWNER, accepted_at__isnull=False)
    return owners.filter(user__activated_at__isnull=False).exists()


def _end_earlier_claims(ref: TenantRef, *, actor: str) -> None:
    """Revoke what was claimed before. Raises AlreadyClaimed when it may not be claimed again."""
    with connection.cursor() as cursor:  # Two claims at once take turns.
        cursor.execute("select pg_advisory_xact_lock(%s, %s)", [0x51A9, ref.id % 2**31])
    claimed = list(ApiKey.objects.filter(created_by=actor).order_by("created_at"))
    if not claimed:
        return
    if any(key.last_used_at for key in claimed):
        raise AlreadyClaimed("The key is in use.")
    if timezone.now() - claimed[0].created_at > CLAIM_WINDOW:
        raise AlreadyClaimed(f"It was claimed more than {CLAIM_WINDOW} ago.")
    for key in claimed:
        if key.revoked_at is None:
            keys.revoke(tenant=ref, prefix=key.prefix, actor=actor, reason="Claimed again.")

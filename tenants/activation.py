"""The link in the welcome mail: it proves that the owner reads the address, and sets the password.

GET shows a form, so that a mail scanner that follows links uses nothing up; POST consumes. Single
use is the database's to enforce: tenants/sql/users.sql has the guarded UPDATEs.
"""

from dataclasses import dataclass
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core import signing
from django.db import connection, transaction

from tenants import audit, keys, problems
from tenants.context import NOWHERE, TenantRef, tenant_context
from tenants.models import Membership, Tenant, User
from tenants.states import TenantStatus

LINK_SECONDS = 72 * 60 * 60
LONGEST_PASSWORD = 128
OPEN = {TenantStatus.PROVISIONING, TenantStatus.ACTIVE}  # Where somebody may still come in.
_SALT = "tenants.activation"
_LONGEST_TOKEN = 300


@dataclass(frozen=True, slots=True)
class Invitation:
    """What a valid, unused link is for."""

    tenant: Tenant
    user: User

    @property
    def is_known(self) -> bool:
        """Whether the person has an account already, and only joins this tenant."""
        return self.user.activated_at is not None


def make_token(*, user_id: UUID, tenant_id: int) -> str:
    """A token for one person in one tenant, valid for LINK_SECONDS."""
    return signing.dumps([str(user_id), tenant_id], salt=_SALT)


def url(*, user_id: UUID, tenant_id: int) -> str:
    """The address to put into the mail; it begins with PUBLIC_URL, whatever a request said."""
    return f"{settings.PUBLIC_URL}/activate/{make_token(user_id=user_id, tenant_id=tenant_id)}"


def read(token: str) -> Invitation:
    """What the link is for; changes nothing.

    Raises InvalidLink when it is forged, expired or used, or its tenant is gone.
    """
    user_id, ref = _claims(token)
    with tenant_context(ref):
        user = User.objects.filter(pk=user_id).first()
        tenant = Tenant.objects.filter(pk=ref.id).first()
        is_invited = Membership.objects.filter(user_id=user_id, accepted_at=None).exists()
    if user is None or tenant is None or tenant.status not in OPEN or not is_invited:
        raise problems.InvalidLink
    return Invitation(tenant, user)


def activate(*, token: str, password: str) -> Tenant:
    """Consume the link: set the password, activate the account, end the keys made before.

    Raises InvalidLink as `read` does, and ValidationError for a weak password; the link stays good
    after the latter.
    """
    invitation = read(token)
    validate_password(password, invitation.user)
    hashed = make_password(password)  # Slow on purpose, so outside the transaction.
    tenant, user_id = invitation.tenant, invitation.user.pk
    actor = f"user:{user_id}"
    with tenant_context(TenantRef(tenant.pk, NOWHERE)) as ref, transaction.atomic():
        if invitation.is_known or not _ask("slipway.activate_user", user_id, hashed):
            raise problems.InvalidLink
        audit.record(actor=actor, action="user.activated", target=actor, tenant_id=tenant.pk)
        # Whoever signed the address up may not have been its reader.
        keys.revoke_all(tenant=ref, actor=actor, reason="The account was activated.")
    return tenant


def join(*, token: str) -> Tenant:
    """Consume the link of somebody who has an account already, and has just proved to be them.

    Raises InvalidLink as `read` does.
    """
    invitation = read(token)
    tenant, user_id = invitation.tenant, invitation.user.pk
    actor = f"user:{user_id}"
    with tenant_context(TenantRef(tenant.pk, NOWHERE)) as ref, transaction.atomic():
        if not invitation.is_known or not _ask("slipway.join_tenant", user_id):
            raise problems.InvalidLink
        audit.record(actor=actor, action="member.joined", target=actor, tenant_id=tenant.pk)
        keys.revoke_all(tenant=ref, actor=actor, reason="The owner joined.")
    return tenant


def _ask(function: str, *values: UUID | str) -> bool:
    """Whether a function of tenants/sql/users.sql did its deed: the app role may not by itself."""
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(values))
        cursor.execute(f"select {function}({marks})", values)
        (did,) = cursor.fetchone()
    return bool(did)


def _claims(token: str) -> tuple[UUID, TenantRef]:
    if len(token) > _LONGEST_TOKEN:
        raise problems.InvalidLink
    try:
        user_id, tenant_id = signing.loads(token, salt=_SALT, max_age=LINK_SECONDS)
        return UUID(user_id), TenantRef(int(tenant_id), NOWHERE)
    except (signing.BadSignature, ValueError, TypeError):
        raise problems.InvalidLink from None

"""Who is a customer: tenants, their addresses, people, keys, and what was done to them."""

import hashlib
from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower
from django_tenants.models import DomainMixin, TenantMixin

from config.ids import uuid7
from tenants.context import POOL, TenantRef, current_tenant_id
from tenants.states import Home, TenantStatus


class TenantOwned(models.Model):
    """A row of one tenant. Its migration isolates the table: tenants.rls.IsolateTenant."""

    tenant_isolated: ClassVar[bool] = True

    tenant = models.ForeignKey(
        "tenants.Tenant",
        models.CASCADE,
        default=current_tenant_id,
        related_name="+",
        db_index=False,  # The key (tenant_id, id) leads with it.
    )

    class Meta:
        abstract = True


class UserManager(BaseUserManager["User"]):
    """Users by e-mail address."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db, force_insert=True)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email__iexact=username)


class User(AbstractBaseUser, PermissionsMixin):
    """A person: the member of one tenant or several, or an operator (staff).

    The app role sees only the members of the current tenant, and never staff.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(max_length=254)
    name = models.CharField(max_length=100, blank=True)
    is_staff = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    activated_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    objects = UserManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("email"), name="user_email"),  # One person an address.
        ]

    def __str__(self) -> str:
        return self.email

    def get_session_auth_hash(self) -> str:
        """What a session remembers of the password, which ends it when that changes.

        Without SECRET_KEY, which Django's own has in it: with a new key a session would be given
        another cookie, and requests that are under way with the former one be signed out. Session
        data never leave the database, whose readers have the password's hash anyway.
        """
        return hashlib.sha256(b"slipway session " + self.password.encode()).hexdigest()

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        """Django's of other keys: there are none."""
        return iter(())


class Tenant(TenantMixin):  # type: ignore[misc]
    """One customer account.

    Its number is drawn when the sign-up is accepted; the row is made by the provisioning step
    `tenant`. `schema_name` is the schema it would have of its own, and never changes; `home` says
    whether it has one.
    """

    tenant_isolated: ClassVar[bool] = True
    auto_create_schema = False  # The provisioning step `schema` does that, for dedicated tenants.

    uuid = models.UUIDField(unique=True, editable=False)
    slug = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=50)
    plan = models.CharField(max_length=40)
    home = models.CharField(max_length=10, choices=Home.choices, default=Home.POOLED)
    status = models.CharField(
        max_length=12, choices=TenantStatus.choices, default=TenantStatus.PROVISIONING
    )
    external_id = models.CharField(max_length=100, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    locale = models.CharField(max_length=35, default="en")
    time_zone = models.CharField(max_length=64, default="UTC")
    # What the platform said of it alone: its currency (tenants.currencies), and limits in place of
    # its plan's (tenants.allowances).
    currency = models.CharField(max_length=3, blank=True, default="", db_default="")
    limits = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    activated_at = models.DateTimeField(null=True, blank=True)
    suspended_at = models.DateTimeField(null=True, blank=True)
    closes_at = models.DateTimeField(null=True, blank=True)  # When its days of grace end.
    closed_at = models.DateTimeField(null=True, blank=True)  # When nothing of it was left.

    class Meta:
        indexes = [
            # Whose work waits (jobs.engine.sql.HELD): the few that are suspended or in grace.
            models.Index(
                fields=["id"],
                name="tenant_held",
                condition=Q(status=TenantStatus.SUSPENDED)
                | Q(status=TenantStatus.CLOSING, closes_at__isnull=False),
            ),
            models.Index(fields=["external_id"], name="tenant_external_id"),  # Platform's look-up.
            models.Index(fields=["status", "id"], name="tenant_status"),  # Platform's list.
        ]

    def __str__(self) -> str:
        return self.slug

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Write the row and nothing else: no schema is made as a side effect."""
        models.Model.save(self, *args, **kwargs)

    @property
    def search_schema(self) -> str:
        """The schema where this tenant's own tables are."""
        return self.schema_name if self.home == Home.DEDICATED else POOL

    @property
    def ref(self) -> TenantRef:
        return TenantRef(self.pk, self.search_schema)


class Domain(DomainMixin):  # type: ignore[misc]
    """An address of a tenant. The app role finds one by exact host: slipway.tenant_by_host()."""

    tenant_isolated: ClassVar[bool] = True

    def __str__(self) -> str:
        return str(self.domain)


class Membership(TenantOwned):
    """A person's part in a tenant."""

    class Role(models.TextChoices):
        OWNER = "owner"
        ADMIN = "admin"
        MEMBER = "member"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)
    # Null while an invitation waits: an address that has a user already joins only by accepting.
    accepted_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint("tenant", "user", name="membership_user"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role}"


class _Key(models.Model):
    """What tenant keys and platform keys share. Only a hash of the secret is stored."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    prefix = models.CharField(max_length=16, unique=True)  # Public; finds the row.
    secret_hash = models.BinaryField(max_length=32)  # SHA-256 of a random secret.
    name = models.CharField(max_length=100, blank=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=100)  # An actor: tenants.audit.
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.prefix


class ApiKey(_Key, TenantOwned):
    """A tenant's key, `slw_<prefix>_<secret>`."""

    class Meta:
        verbose_name = "API key"


class PlatformKey(_Key):
    """A key of the platform's back ends, `slp_<prefix>_<secret>`."""

    rate_limit = models.PositiveIntegerField(default=6000)  # Requests a minute.


class AuditEntry(models.Model):
    """What was done, by whom, to what, and why. Append-only: a trigger refuses everything else.

    Holds ids, never personal data, tokens or bodies.
    """

    tenant_isolated: ClassVar[bool] = True

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    at = models.DateTimeField(auto_now_add=True)
    tenant = models.ForeignKey(
        Tenant,
        models.DO_NOTHING,
        null=True,  # The platform's own matters.
        db_constraint=False,  # Outlives the tenant.
        related_name="+",
        db_index=False,
    )
    actor = models.CharField(max_length=100)
    action = models.CharField(max_length=60)
    target = models.CharField(max_length=100)
    reason = models.CharField(max_length=500, blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=64, blank=True)
    address = models.GenericIPAddressField(null=True)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["tenant", "-at"], name="audit_tenant"),  # A tenant's timeline.
            models.Index(fields=["target", "-at"], name="audit_target"),  # A thing's timeline.
            # The console's lists, newest first.
            models.Index("action", F("id").desc(nulls_last=True), name="audit_action"),
            models.Index("actor", F("id").desc(nulls_last=True), name="audit_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"


class Session(AbstractBaseSession):
    """A signed-in browser. Bound to its tenant: under RLS another tenant's host cannot find it.

    The console's sessions have no tenant, and the app role cannot see them at all.
    """

    tenant_isolated: ClassVar[bool] = True

    tenant = models.ForeignKey(
        Tenant, models.CASCADE, null=True, default=current_tenant_id, related_name="+"
    )

    class Meta(AbstractBaseSession.Meta):
        abstract = False

    @classmethod
    def get_session_store_class(cls) -> Any:
        from tenants.sessions import SessionStore

        return SessionStore

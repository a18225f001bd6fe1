"""Who calls the API, and the parts that make a DRF view know it.

A view says what it needs and no more:

    class Customers(CallerView):
        tenant_required = True
        scopes = {"GET": "customers:read", "POST": "customers:write"}

`request.caller` is then a Caller, and the handler runs in the context of its tenant.
"""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

import structlog
from django.contrib.auth.models import AnonymousUser
from django.db import DEFAULT_DB_ALIAS, connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from config.api import LeanAPIView
from config.ids import format_id, parse_id
from config.proxies import client_address
from tenants import keys, problems, throttling, usage
from tenants.context import TenantRef, tenant_context
from tenants.keys import Proof
from tenants.states import TenantStatus
from tenants.summary import TenantSummary, summary

TENANT_HEADER = "Slipway-Tenant"
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="slipway"'}
_SLUG = re.compile(r"[a-z0-9-]{1,63}")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_GIVEN_UP = frozenset({TenantStatus.CLOSING, TenantStatus.CLOSED})
_LONGEST_HEADER = 128  # A key has 49 characters; nothing longer is looked at.


class CallerKind(StrEnum):
    """Who may call: a stranger, the platform's back end, a tenant's."""

    ANONYMOUS = "anonymous"
    PLATFORM = "platform"
    TENANT = "tenant"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes this request, and for which tenant."""

    kind: CallerKind = CallerKind.ANONYMOUS
    prefix: str = ""  # The key's public part.
    scopes: frozenset[str] = frozenset()
    tenant: TenantSummary | None = (
        None  # Whom it acts for; None is nobody, or, for the platform, all.
    )
    address: str = ""
    proof: Proof | None = field(default=None, repr=False)
    per_minute: int | None = None  # The limit of a platform key.

    @property
    def actor(self) -> str:
        """How the audit trail names the caller."""
        if self.kind is CallerKind.ANONYMOUS:
            return "anonymous"
        return f"{'platform_key' if self.is_platform else 'api_key'}:{self.prefix}"

    @property
    def is_platform(self) -> bool:
        return self.kind is CallerKind.PLATFORM

    @property
    def tenant_ref(self) -> TenantRef:
        """The tenant it acts for.

        Raises TenantNotNamed when it names none.
        """
        if self.tenant is None:
            raise problems.TenantNotNamed(f"Send {TENANT_HEADER}: its id or slug.")
        return self.tenant.ref

    def require_scope(self, scope: str) -> None:
        """Raises MissingKey for strangers, MissingScope for keys that lack it."""
        if self.kind is CallerKind.ANONYMOUS:
            raise problems.MissingKey("Send Authorization: Bearer <key>.", headers=_CHALLENGE)
        if scope not in self.scopes:
            raise problems.MissingScope(f"It needs {scope}.", scope=scope)


def identify(request: HttpRequest) -> Caller:
    """The caller of a request, from its Authorization and Slipway-Tenant headers.

    A key is counted as soon as it is known; strangers are left to the view.
    Raises InvalidKey, RateLimited, TenantNotFound, TenantMismatch.
    """
    token = _bearer(request)
    address = client_address(request)
    if token is None:
        return Caller(address=address)
    known = keys.recognise(token)
    if known is None:
        throttling.count_invalid_key(request)
        raise problems.InvalidKey(headers=_CHALLENGE)
    throttling.count_call(request, prefix=known.proof.prefix, per_minute=known.per_minute)
    usage.note(known.proof, first=not known.used)
    here: TenantSummary | None = getattr(request, "tenant", None)
    named = request.META.get("HTTP_SLIPWAY_TENANT", "")
    if known.tenant is None:
        tenant = find_tenant(known.proof, named) if named else here
    else:
        tenant = known.tenant
        if named and named not in {tenant.slug, format_id("tnt", tenant.uuid)}:
            raise problems.TenantMismatch
    if here is not None and tenant is not None and here.ref.id != tenant.ref.id:
        # A key on another tenant's address is a stranger there: no word on whose it is.
        raise problems.InvalidKey(headers=_CHALLENGE)
    kind = CallerKind.PLATFORM if known.tenant is None else CallerKind.TENANT
    return Caller(
        kind, known.proof.prefix, known.scopes, tenant, address, known.proof, known.per_minute
    )


def find_tenant(proof: Proof, reference: str) -> TenantSummary:
    """The tenant that a platform key names, by id (`tnt_…`) or slug.

    Raises TenantNotFound.
    """
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(
            "select * from slipway.platform_tenant(%s, %s, %s, %s)",
            [proof.prefix, proof.digest, *split_reference(reference)],
        )
        row = cursor.fetchone()
    if row is None:
        raise problems.TenantNotFound
    return summary(row)


def split_reference(reference: str) -> tuple[UUID | None, str | None]:
    """`tnt_<uuid>` as a UUID, or else a slug.

    Raises InvalidId or TenantNotFound for what can be neither.
    """
    if reference.startswith("tnt_"):
        return parse_id("tnt", reference), None
    if not _SLUG.fullmatch(reference):
        raise problems.TenantNotFound
    return None, reference


def refuse_unless_active(tenant: TenantSummary) -> None:
    """Raises TenantNotReady, TenantSuspended or TenantClosed."""
    match tenant.status:
        case TenantStatus.ACTIVE:
            return
        case TenantStatus.PROVISIONING:
            raise problems.TenantNotReady(headers={"Retry-After": "2"})
        case TenantStatus.SUSPENDED:
            raise problems.TenantSuspended
        case _:
            raise problems.TenantClosed


class KeyAuthentication(BaseAuthentication):
    """Sets `request.caller`; strangers pass, and are told apart by the view."""

    def authenticate(self, request: Request) -> tuple[Any, Caller]:
        caller = identify(request._request)
        request._request.caller = caller  # type: ignore[attr-defined]
        return AnonymousUser(), caller

    def authenticate_header(self, request: Request) -> str:
        return _CHALLENGE["WWW-Authenticate"]


class CallerView(LeanAPIView):
    """A view that knows its caller and runs in the context of the caller's tenant.

    `scopes` maps methods to the scope that each needs; a method that is left out is open to all.
    """

    authentication_classes: Any = (KeyAuthentication,)
    scopes: ClassVar[Mapping[str, str]] = {}
    platform_only: ClassVar[bool] = False
    tenant_required: ClassVar[bool] = False

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        with ExitStack() as self._entered:
            return super().dispatch(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        caller: Caller = request.caller  # type: ignore[attr-defined]
        self._check(caller, request.method or "")
        if caller.tenant is not None:
            structlog.contextvars.bind_contextvars(tenant=str(caller.tenant.uuid))
            self._entered.enter_context(tenant_context(caller.tenant.ref))

    def count(self, request: Request) -> None:
        """Keys were counted when they were recognised."""
        if request.caller.kind is CallerKind.ANONYMOUS:  # type: ignore[attr-defined]
            super().count(request)

    def _check(self, caller: Caller, method: str) -> None:
        scope = self.scopes.get(method)
        if scope is not None:
            caller.require_scope(scope)
        if self.platform_only and not caller.is_platform:
            raise problems.WrongKind("It needs a platform key.")
        if self.tenant_required:
            caller.tenant_ref  # noqa: B018 - it raises when nobody is named.
        if caller.tenant is None:
            return
        # The platform's keys reach its tenants in any state: to read, reopen or export them.
        # What is given up takes nothing new: it would be deleted, or come after the purge and stay.
        if caller.kind is CallerKind.TENANT:
            refuse_unless_active(caller.tenant)
        elif self.tenant_required and method not in _SAFE and caller.tenant.status in _GIVEN_UP:
            raise problems.TenantClosed


def _bearer(request: HttpRequest) -> str | None:
    """The bearer token, None when there is no Authorization header.

    Raises InvalidKey for another scheme, and for what is too long to be a key.
    """
    header = request.META.get("HTTP_AUTHORIZATION", "")
    if not header:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or len(header) > _LONGEST_HEADER:
        raise problems.InvalidKey(headers=_CHALLENGE)
    return str(token)

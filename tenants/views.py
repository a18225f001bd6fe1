"""The platform's REST API for tenants, keys and the audit trail."""

from typing import Any
from uuid import UUID

import msgspec
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.ids import parse_id
from config.lists import (
    InvalidParameter,
    Page,
    page,
    read_cursor,
    read_limit,
    refuse_unknown_parameters,
    row_number,
)
from config.problems import FieldError, InvalidRequest
from config.spelling import unseen_flaw
from tenants import keys, problems, services
from tenants.auth import TENANT_HEADER, Caller, CallerView, find_tenant
from tenants.context import tenant_context
from tenants.models import ApiKey, AuditEntry, Tenant
from tenants.scopes import UnknownScope
from tenants.serializers import (
    REASON_MOST,
    AuditAnswer,
    Because,
    KeyAnswer,
    KeyWish,
    NewKeyAnswer,
    ReopenWish,
    TenantAnswer,
    TenantChange,
    audit_entry_as_json,
    key_as_json,
    tenant_as_json,
)
from tenants.services import Door


class Tenants(CallerView):
    """GET /v1/tenants: all tenants, newest first."""

    platform_only = True
    scopes = {"GET": "tenants:read"}
    answers = {"GET": Page[TenantAnswer]}
    filters = ("status", "plan", "external_id")

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, self.filters)
        limit = read_limit(request)
        rows = Tenant.objects.raw(
            "select * from slipway.platform_tenants(%s, %s, %s, %s, %s, %s, %s)",
            [
                *_proof(request),
                read_cursor(request, row_number),
                limit + 1,
                *(request.GET.get(name) for name in self.filters),
            ],
        )
        place = lambda tenant: str(tenant.pk)  # noqa: E731
        return Response(page(list(rows), limit=limit, show=tenant_as_json, place=place))


class OneTenant(CallerView):
    """GET and PATCH /v1/tenants/{id or slug}."""

    platform_only = True
    scopes = {"GET": "tenants:read", "PATCH": "tenants:write"}
    bodies = {"PATCH": TenantChange}
    answers = {"GET": TenantAnswer, "PATCH": TenantAnswer}

    def get(self, request: Request, reference: str) -> Response:
        return Response(_read_tenant(request, reference))

    def patch(self, request: Request, reference: str) -> Response:
        change = decode(request, TenantChange)
        if change.limits is msgspec.UNSET and change.currency is msgspec.UNSET:
            message = "Say limits, or a currency."
            raise InvalidRequest(errors=[FieldError("/limits", "required", message)])
        caller = caller_of(request)
        tenant = find_tenant(proof_of(caller), reference)
        said: dict[str, Any] = {
            "tenant_id": tenant.ref.id,
            "actor": caller.actor,
            "reason": change.reason.strip(),
            "door": Door(caller.proof),
        }
        if change.currency is not msgspec.UNSET:
            services.set_currency(currency=change.currency, **said)
        if change.limits is not msgspec.UNSET:
            services.set_limits(limits=change.limits.given(), **said)
        return Response(_read_tenant(request, reference))


class _MoveTenant(CallerView):
    """POST with a reason; doing it again changes nothing and answers the same."""

    platform_only = True
    scopes = {"POST": "tenants:write"}
    bodies = {"POST": Because}
    answers = {"POST": TenantAnswer}
    service: Any

    def post(self, request: Request, reference: str) -> Response:
        because = decode(request, self.bodies["POST"])
        caller = caller_of(request)
        tenant = find_tenant(proof_of(caller), reference)
        type(self).service(
            tenant_id=tenant.ref.id,
            actor=caller.actor,
            door=Door(caller.proof),
            **msgspec.structs.asdict(because),
        )
        return Response(_read_tenant(request, reference))


class SuspendTenant(_MoveTenant):
    """POST /v1/tenants/{id or slug}/suspend."""

    service = staticmethod(services.suspend)


class ReopenTenant(_MoveTenant):
    """POST /v1/tenants/{id or slug}/reopen.

    One that was suspended when it was closed is suspended again; that is lifted by `from`
    `suspended`, and by nothing that is merely sent twice.
    """

    bodies = {"POST": ReopenWish}
    service = staticmethod(services.reopen)


class Keys(CallerView):
    """GET and POST /v1/keys: the keys of the caller's tenant."""

    tenant_required = True
    scopes = {"GET": "keys:read", "POST": "keys:write"}
    bodies = {"POST": KeyWish}
    answers = {"GET": Page[KeyAnswer], "POST": {201: NewKeyAnswer}}
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        before = read_cursor(request, UUID)
        rows = ApiKey.objects.order_by("-id")
        rows = rows.filter(id__lt=before) if before else rows
        place = lambda key: str(key.pk)  # noqa: E731
        return Response(page(rows[: limit + 1], limit=limit, show=key_as_json, place=place))

    def post(self, request: Request) -> Response:
        wish = decode(request, KeyWish)
        caller = caller_of(request)
        _refuse_more_than_own(wish, caller)
        made = keys.create(
            tenant=caller.tenant_ref,
            name=wish.name,
            scopes=wish.scopes,
            actor=caller.actor,
            expires_at=wish.expires_at,
        )
        shown: NewKeyAnswer = {**key_as_json(made.key), "key": made.token}
        return Response(shown, status=201)


class OneKey(CallerView):
    """DELETE /v1/keys/{id}: revoke it; again is no error."""

    tenant_required = True
    scopes = {"DELETE": "keys:write"}
    answers = {"DELETE": {204: None}}
    parameters = {"DELETE": {"reason": "query"}}

    def delete(self, request: Request, key_id: str) -> Response:
        refuse_unknown_parameters(request, ("reason",))
        reason = _read_reason(request)
        caller = caller_of(request)
        key = ApiKey.objects.filter(pk=parse_id("key", key_id)).first()
        if key is None:
            raise problems.KeyNotFound
        keys.revoke(tenant=caller.tenant_ref, prefix=key.prefix, actor=caller.actor, reason=reason)
        return Response(status=204)


class Audit(CallerView):
    """GET /v1/audit: what was done, newest first, to one tenant (`Slipway-Tenant`) or to all."""

    platform_only = True
    scopes = {"GET": "audit:read"}
    answers = {"GET": Page[AuditAnswer]}
    parameters = {"GET": {TENANT_HEADER: "header"}}
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        tenant = caller_of(request).tenant
        rows = AuditEntry.objects.raw(
            "select (found.entry).*, found.tenant_uuid"
            " from slipway.platform_audit(%s, %s, %s, %s, %s) found",
            [
                *_proof(request),
                tenant.ref.id if tenant else None,
                read_cursor(request, UUID),
                limit + 1,
            ],
        )
        place = lambda entry: str(entry.pk)  # noqa: E731
        return Response(page(list(rows), limit=limit, show=audit_entry_as_json, place=place))


def caller_of(request: Request) -> Caller:
    """Who calls: set by KeyAuthentication."""
    caller: Caller = request.caller  # type: ignore[attr-defined]
    return caller


def proof_of(caller: Caller) -> keys.Proof:
    """The caller's proof. Raises WrongKind for strangers."""
    if caller.proof is None:
        raise problems.WrongKind
    return caller.proof


def _proof(request: Request) -> tuple[str, bytes]:
    proof = proof_of(caller_of(request))
    return proof.prefix, proof.digest


def _read_reason(request: Request) -> str:
    """Why, where it need not be said. Raises InvalidParameter."""
    reason = str(request.GET.get("reason", "")).strip()
    if len(reason) > REASON_MOST or unseen_flaw(reason):
        raise InvalidParameter("reason is not valid.", parameter="reason")
    return reason


def _read_tenant(request: Request, reference: str) -> TenantAnswer:
    found = find_tenant(proof_of(caller_of(request)), reference)
    with tenant_context(found.ref):
        return tenant_as_json(Tenant.objects.get(pk=found.ref.id))


def _refuse_more_than_own(wish: KeyWish, caller: Caller) -> None:
    """A key makes no key that may do more than itself. Raises UnknownScope."""
    errors = [
        FieldError(f"/scopes/{index}", "scope_not_held", "The key you use does not have it.")
        for index, scope in enumerate(wish.scopes)
        if scope not in caller.scopes
    ]
    if errors:
        raise UnknownScope(errors=errors)

"""The platform's REST API for a tenant's life after its sign-up."""

from uuid import UUID

from django.db import DEFAULT_DB_ALIAS
from django.http import FileResponse
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.ids import parse_id
from config.lists import Page, page, read_cursor, read_limit, refuse_unknown_parameters
from lifecycle import closing, exporting, plans
from lifecycle.errors import ExportNotFound, ExportNotReady, NoPlanChange
from lifecycle.models import Export
from lifecycle.serializers import (
    ArchiveAnswer,
    ArchiveWish,
    PlanAnswer,
    PlanWish,
    export_as_json,
    plan_move_as_json,
)
from tenants import files
from tenants.auth import CallerView, find_tenant
from tenants.context import tenant_context
from tenants.models import Tenant
from tenants.serializers import Because, TenantAnswer, tenant_as_json
from tenants.services import Door
from tenants.summary import TenantSummary
from tenants.views import caller_of, proof_of


class Plan(CallerView):
    """GET and POST /v1/tenants/{id or slug}/plan: the last change of plan; another one.

    Where it means another home it goes on in the background, and is followed by GET. Writes of the
    tenant's are refused for a moment meanwhile: 503 `tenant_moving`, with Retry-After.
    """

    platform_only = True
    scopes = {"GET": "tenants:read", "POST": "tenants:write"}
    bodies = {"POST": PlanWish}
    answers = {"GET": PlanAnswer, "POST": {202: PlanAnswer}}

    def get(self, request: Request, reference: str) -> Response:
        tenant = find_tenant(proof_of(caller_of(request)), reference)
        with tenant_context(tenant.ref):
            move = plans.latest(tenant_id=tenant.ref.id, using=DEFAULT_DB_ALIAS)
            if move is None:
                raise NoPlanChange
            stuck = plans.stuck([move], using=DEFAULT_DB_ALIAS)
        return Response(plan_move_as_json(move, stuck=bool(stuck)))

    def post(self, request: Request, reference: str) -> Response:
        wish = decode(request, PlanWish)
        caller = caller_of(request)
        tenant = find_tenant(proof_of(caller), reference)
        move = plans.start(
            tenant_id=tenant.ref.id,
            plan=wish.plan,
            actor=caller.actor,
            reason=wish.reason,
            door=Door(caller.proof),
        )
        shown = plan_move_as_json(move)
        return Response(shown, status=202, headers={"Location": request.path})


class CloseTenant(CallerView):
    """POST /v1/tenants/{id or slug}/close: close a tenant, with days of grace to reopen it in.

    Its pages and keys answer 410 from now on, and its work waits; after `closes_at` all that there
    is of it is deleted. Doing it again changes nothing.
    """

    platform_only = True
    scopes = {"POST": "tenants:write"}
    bodies = {"POST": Because}
    answers = {"POST": {202: TenantAnswer}}

    def post(self, request: Request, reference: str) -> Response:
        because = decode(request, Because)
        caller = caller_of(request)
        tenant = find_tenant(proof_of(caller), reference)
        closing.close(
            tenant_id=tenant.ref.id,
            actor=caller.actor,
            reason=because.reason,
            door=Door(caller.proof),
        )
        with tenant_context(tenant.ref):
            shown = tenant_as_json(Tenant.objects.get(pk=tenant.ref.id))
        return Response(shown, status=202)


class ExportTenant(CallerView):
    """POST /v1/tenants/{id or slug}/export: have everything of a tenant put into an archive."""

    platform_only = True
    scopes = {"POST": "tenants:write"}
    bodies = {"POST": ArchiveWish}
    answers = {"POST": {202: ArchiveAnswer}}

    def post(self, request: Request, reference: str) -> Response:
        wish = decode(request, ArchiveWish)
        caller = caller_of(request)
        tenant = find_tenant(proof_of(caller), reference)
        made = exporting.begin(
            tenant_id=tenant.ref.id,
            actor=caller.actor,
            reason=wish.reason.strip(),
            door=Door(caller.proof),
        )
        shown = export_as_json(made, reference=reference)
        headers = {"Location": f"/v1/tenants/{reference}/exports/{shown['id']}"}
        return Response(shown, status=202, headers=headers)


class Archives(CallerView):
    """GET /v1/tenants/{id or slug}/exports: its archives, newest first."""

    platform_only = True
    scopes = {"GET": "tenants:read"}
    answers = {"GET": Page[ArchiveAnswer]}
    filters = ()

    def get(self, request: Request, reference: str) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        before = read_cursor(request, UUID)
        tenant = find_tenant(proof_of(caller_of(request)), reference)
        with tenant_context(tenant.ref):
            found = Export.objects.filter(erased_at=None).order_by("-id")
            rows = list((found.filter(pk__lt=before) if before else found)[: limit + 1])
        dead = {row.pk for row in rows if exporting.stuck(row)}
        show = lambda row: export_as_json(row, reference=reference, stuck=row.pk in dead)  # noqa: E731
        place = lambda row: str(row.pk)  # noqa: E731
        return Response(page(rows, limit=limit, show=show, place=place))


class OneArchive(CallerView):
    """GET /v1/tenants/{id or slug}/exports/{id}: how far it is."""

    platform_only = True
    scopes = {"GET": "tenants:read"}
    answers = {"GET": ArchiveAnswer}

    def get(self, request: Request, reference: str, export_id: str) -> Response:
        tenant = find_tenant(proof_of(caller_of(request)), reference)
        found = _find(tenant, export_id)
        return Response(export_as_json(found, reference=reference, stuck=exporting.stuck(found)))


class ArchiveFile(CallerView):
    """GET /v1/tenants/{id or slug}/exports/{id}/file: the archive. Who took it away is recorded."""

    platform_only = True
    scopes = {"GET": "tenants:write"}  # All that its people and customers told it is in there.
    answers = {"GET": {(200, "application/zip"): bytes}}

    def get(self, request: Request, reference: str, export_id: str) -> FileResponse:
        caller = caller_of(request)
        tenant = find_tenant(proof_of(caller), reference)
        found = _find(tenant, export_id)
        if found.finished_at is None:
            raise ExportNotReady
        name = exporting.file_of(found)
        if name is None:
            raise ExportNotFound
        try:
            file = files.storage().open(name)
        except FileNotFoundError:
            raise ExportNotFound from None
        exporting.record_taken(tenant, found, actor=caller.actor)
        return FileResponse(
            file,
            as_attachment=True,
            filename=f"{tenant.slug}-{found.pk}.zip",
            content_type="application/zip",
            headers={"Cache-Control": "no-store"},
        )


def _find(tenant: TenantSummary, export_id: str) -> Export:
    with tenant_context(tenant.ref):
        found = Export.objects.filter(pk=parse_id("exp", export_id), erased_at=None).first()
    if found is None:
        raise ExportNotFound
    return found

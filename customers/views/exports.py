"""The REST API of exports."""

from uuid import UUID

from django.http import FileResponse
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.ids import parse_id
from config.lists import Page, page, read_cursor, read_limit, refuse_unknown_parameters
from config.spreadsheets import CONTENT_TYPE
from customers import exporting
from customers.errors import ExportNotFound, ExportNotReady
from customers.jobless import stuck
from customers.models import Export, Import
from customers.serializers.exports import ExportAnswer, ExportWish, export_as_json
from tenants import files
from tenants.auth import Caller, CallerView

_TYPES = {Import.Format.CSV: CONTENT_TYPE, Import.Format.JSONL: "application/x-ndjson"}


class Exports(CallerView):
    """GET and POST /v1/customers/exports."""

    tenant_required = True
    scopes = {"GET": "customers:read", "POST": "customers:read"}
    bodies = {"POST": ExportWish}
    answers = {"GET": Page[ExportAnswer], "POST": {202: ExportAnswer}}
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        found = Export.objects.order_by("-id")
        before = read_cursor(request, UUID)
        rows = list((found.filter(pk__lt=before) if before else found)[: limit + 1])
        dead = stuck(rows)
        show = lambda row: export_as_json(row, stuck=row.pk in dead)  # noqa: E731
        place = lambda row: str(row.pk)  # noqa: E731
        return Response(page(rows, limit=limit, show=show, place=place))

    def post(self, request: Request) -> Response:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        wish = decode(request, ExportWish)
        shown = export_as_json(exporting.begin(format=wish.format, actor=caller.actor))
        headers = {"Location": f"/v1/customers/exports/{shown['id']}"}
        return Response(shown, status=202, headers=headers)


class OneExport(CallerView):
    """GET /v1/customers/exports/{id}."""

    tenant_required = True
    scopes = {"GET": "customers:read"}
    answers = {"GET": ExportAnswer}

    def get(self, request: Request, export_id: str) -> Response:
        found = _find(export_id)
        return Response(export_as_json(found, stuck=bool(stuck([found]))))


class ExportedFile(CallerView):
    """GET /v1/customers/exports/{id}/file."""

    tenant_required = True
    scopes = {"GET": "customers:read"}
    answers = {"GET": {(200, "text/csv"): str, (200, "application/x-ndjson"): str}}

    def get(self, request: Request, export_id: str) -> FileResponse:
        found = _find(export_id)
        if found.finished_at is None:
            raise ExportNotReady
        try:
            file = files.storage().open(found.file)
        except FileNotFoundError:
            raise ExportNotFound from None
        return FileResponse(
            file,
            as_attachment=True,
            filename=f"customers-{found.pk}.{found.format}",
            content_type=_TYPES[Import.Format(found.format)],
            headers={"Cache-Control": "no-store"},
        )


def _find(export_id: str) -> Export:
    found = Export.objects.filter(pk=parse_id("exp", export_id)).first()
    if found is None:
        raise ExportNotFound
    return found

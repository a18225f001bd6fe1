"""The REST API of imports: a file of customers is taken at once, and read in the background."""

from collections.abc import Iterator
from uuid import UUID

from django.conf import settings
from django.http import StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from config import idempotency
from config.ids import parse_id
from config.lists import Page, page, read_cursor, read_limit, refuse_unknown_parameters
from config.problems import UnsupportedMediaType
from config.spreadsheets import CONTENT_TYPE, as_csv
from customers import importing, uploads
from customers.errors import ImportNotFound
from customers.jobless import stuck
from customers.models import Import, RejectedRow
from customers.serializers.imports import ImportAnswer, import_as_json
from tenants.auth import Caller, CallerView
from tenants.context import TenantRef, tenant_context

FORMATS = {"text/csv": Import.Format.CSV, "application/x-ndjson": Import.Format.JSONL}
_AT_ONCE = 1000


class Imports(CallerView):
    """GET and POST /v1/customers/imports."""

    tenant_required = True
    scopes = {"GET": "customers:read", "POST": "customers:write"}
    uploads = {"POST": tuple(FORMATS)}
    answers = {"GET": Page[ImportAnswer], "POST": {202: ImportAnswer}}
    parameters = {"POST": {"Idempotency-Key": "header"}}
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        found = Import.objects.order_by("-id")
        before = read_cursor(request, UUID)
        rows = list((found.filter(pk__lt=before) if before else found)[: limit + 1])
        dead = stuck(rows)
        show = lambda row: import_as_json(row, stuck=row.pk in dead)  # noqa: E731
        place = lambda row: str(row.pk)  # noqa: E731
        return Response(page(rows, limit=limit, show=show, place=place))

    def post(self, request: Request) -> Response:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        header = request.headers.get("Idempotency-Key")
        key = idempotency.parse(header, caller=str(caller.tenant_ref.id), stranger=False)
        format = FORMATS.get(uploads.media_type(request))
        if format is None:
            raise UnsupportedMediaType(f"Send Content-Type: {' or '.join(FORMATS)}.")
        with uploads.spool() as file:
            most = settings.SLIPWAY["CUSTOMERS"]["import_bytes"]
            begun, replayed = importing.begin(
                upload=uploads.receive(request, file, most=most),
                format=format,
                actor=caller.actor,
                key=key.digest if key else None,
            )
        shown = import_as_json(begun)
        headers = {"Location": f"/v1/customers/imports/{shown['id']}"}
        if replayed:
            headers["Idempotent-Replayed"] = "true"
        return Response(shown, status=202, headers=headers)


class OneImport(CallerView):
    """GET and DELETE /v1/customers/imports/{id}: how far it is; take no more of it in."""

    tenant_required = True
    scopes = {"GET": "customers:read", "DELETE": "customers:write"}
    answers = {"GET": ImportAnswer, "DELETE": {204: None}}

    def get(self, request: Request, import_id: str) -> Response:
        found = _find(import_id)
        return Response(import_as_json(found, stuck=bool(stuck([found]))))

    def delete(self, request: Request, import_id: str) -> Response:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        importing.cancel(import_id=parse_id("imp", import_id), actor=caller.actor)
        return Response(status=204)


class RejectedRows(CallerView):
    """GET /v1/customers/imports/{id}/rejected: the rows that were not taken, as CSV."""

    tenant_required = True
    scopes = {"GET": "customers:read"}
    answers = {"GET": {(200, "text/csv"): str}}

    def get(self, request: Request, import_id: str) -> StreamingHttpResponse:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        found = _find(import_id)
        return StreamingHttpResponse(
            _rejected(caller.tenant_ref, found.pk),
            content_type=CONTENT_TYPE,
            headers={
                "Content-Disposition": f'attachment; filename="rejected-{found.pk}.csv"',
                "Cache-Control": "no-store",
            },
        )


def _rejected(tenant: TenantRef, import_id: UUID) -> Iterator[bytes]:
    """The rows, a page at a time; the tenant is entered for each, and for nothing between them."""
    yield as_csv([("line", "reason")])
    line = 0
    while True:
        with tenant_context(tenant):
            rows = RejectedRow.objects.filter(of=import_id, line__gt=line).order_by("line")
            found = list(rows.values_list("line", "reason")[:_AT_ONCE])
        if not found:
            return
        yield as_csv((str(number), reason) for number, reason in found)
        line = found[-1][0]


def _find(import_id: str) -> Import:
    found = Import.objects.filter(pk=parse_id("imp", import_id)).first()
    if found is None:
        raise ImportNotFound
    return found

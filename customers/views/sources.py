"""The REST API of sources, from which a tenant's customers are pulled, and of each pull."""

from collections.abc import Iterator
from uuid import UUID

from django.http import StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.ids import parse_id
from config.lists import Page, page, read_cursor, read_limit, refuse_unknown_parameters
from config.spreadsheets import CONTENT_TYPE, as_csv
from customers import sources, syncing
from customers.errors import SourceNotFound, SyncNotFound
from customers.jobless import stuck
from customers.models import RejectedItem, Source, Sync
from customers.serializers.sources import (
    SourceAnswer,
    SourceChange,
    SourceWish,
    SyncAnswer,
    source_as_json,
    sync_as_json,
)
from tenants.auth import Caller, CallerView
from tenants.context import TenantRef, tenant_context

_AT_ONCE = 1000


class Sources(CallerView):
    """GET and POST /v1/customers/sources."""

    tenant_required = True
    scopes = {"GET": "customers:read", "POST": "customers:write"}
    bodies = {"POST": SourceWish}
    answers = {"GET": Page[SourceAnswer], "POST": {201: SourceAnswer}}
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        found = Source.objects.order_by("-id")
        before = read_cursor(request, UUID)
        found = found.filter(pk__lt=before) if before else found
        place = lambda row: str(row.pk)  # noqa: E731
        return Response(page(found[: limit + 1], limit=limit, show=source_as_json, place=place))

    def post(self, request: Request) -> Response:
        wish = decode(request, SourceWish)
        shown = source_as_json(sources.create(fields=wish.given(), actor=_actor(request)))
        headers = {"Location": f"/v1/customers/sources/{shown['id']}"}
        return Response(shown, status=201, headers=headers)


class OneSource(CallerView):
    """GET, PATCH and DELETE /v1/customers/sources/{id}."""

    tenant_required = True
    scopes = {
        "GET": "customers:read",
        "PATCH": "customers:write",
        "DELETE": "customers:write",
    }
    bodies = {"PATCH": SourceChange}
    answers = {"GET": SourceAnswer, "PATCH": SourceAnswer, "DELETE": {204: None}}

    def get(self, request: Request, source_id: str) -> Response:
        return Response(source_as_json(_find(source_id)))

    def patch(self, request: Request, source_id: str) -> Response:
        changed = sources.change(
            source_id=parse_id("src", source_id),
            fields=decode(request, SourceChange).given(),
            actor=_actor(request),
        )
        return Response(source_as_json(changed))

    def delete(self, request: Request, source_id: str) -> Response:
        sources.delete(source_id=parse_id("src", source_id), actor=_actor(request))
        return Response(status=204)


class Pull(CallerView):
    """POST /v1/customers/sources/{id}/sync: pull all that the source has, in the background."""

    tenant_required = True
    scopes = {"POST": "customers:write"}
    answers = {"POST": {202: SyncAnswer}}

    def post(self, request: Request, source_id: str) -> Response:
        begun = syncing.begin(source_id=parse_id("src", source_id), actor=_actor(request))
        shown = sync_as_json(begun)
        location = f"/v1/customers/sources/{source_id}/syncs/{shown['id']}"
        return Response(shown, status=202, headers={"Location": location})


class Syncs(CallerView):
    """GET /v1/customers/sources/{id}/syncs, newest first."""

    tenant_required = True
    scopes = {"GET": "customers:read"}
    answers = {"GET": Page[SyncAnswer]}
    filters = ()

    def get(self, request: Request, source_id: str) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        found = _find(source_id).syncs.order_by("-id")
        before = read_cursor(request, UUID)
        rows = list((found.filter(pk__lt=before) if before else found)[: limit + 1])
        dead = stuck(rows)
        show = lambda row: sync_as_json(row, stuck=row.pk in dead)  # noqa: E731
        place = lambda row: str(row.pk)  # noqa: E731
        return Response(page(rows, limit=limit, show=show, place=place))


class OneSync(CallerView):
    """GET and DELETE /v1/customers/sources/{id}/syncs/{id}: how far it is; pull no more of it."""

    tenant_required = True
    scopes = {"GET": "customers:read", "DELETE": "customers:write"}
    answers = {"GET": SyncAnswer, "DELETE": {204: None}}

    def get(self, request: Request, source_id: str, sync_id: str) -> Response:
        found = _find_sync(source_id, sync_id)
        return Response(sync_as_json(found, stuck=bool(stuck([found]))))

    def delete(self, request: Request, source_id: str, sync_id: str) -> Response:
        syncing.cancel(
            source_id=parse_id("src", source_id),
            sync_id=parse_id("syn", sync_id),
            actor=_actor(request),
        )
        return Response(status=204)


class RejectedItems(CallerView):
    """GET /v1/customers/sources/{id}/syncs/{id}/rejected: the items that were not taken, as CSV."""

    tenant_required = True
    scopes = {"GET": "customers:read"}
    answers = {"GET": {(200, "text/csv"): str}}

    def get(self, request: Request, source_id: str, sync_id: str) -> StreamingHttpResponse:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        found = _find_sync(source_id, sync_id)
        return StreamingHttpResponse(
            _rejected(caller.tenant_ref, found.pk),
            content_type=CONTENT_TYPE,
            headers={
                "Content-Disposition": f'attachment; filename="rejected-{found.pk}.csv"',
                "Cache-Control": "no-store",
            },
        )


def _rejected(tenant: TenantRef, sync_id: UUID) -> Iterator[bytes]:
    """The items, a page at a time; the tenant is entered for each, and for nothing between them."""
    yield as_csv([("item", "page", "reason")])
    number = 0
    while True:
        with tenant_context(tenant):
            rows = RejectedItem.objects.filter(of=sync_id, number__gt=number).order_by("number")
            found = list(rows.values_list("number", "page", "reason")[:_AT_ONCE])
        if not found:
            return
        yield as_csv((str(item), str(of), reason) for item, of, reason in found)
        number = found[-1][0]


def _find(source_id: str) -> Source:
    found = Source.objects.filter(pk=parse_id("src", source_id)).first()
    if found is None:
        raise SourceNotFound
    return found


def _find_sync(source_id: str, sync_id: str) -> Sync:
    source = parse_id("src", source_id)
    found = Sync.objects.filter(pk=parse_id("syn", sync_id), source=source).first()
    if found is None:
        raise SyncNotFound
    return found


def _actor(request: Request) -> str:
    caller: Caller = request.caller  # type: ignore[attr-defined]
    return caller.actor

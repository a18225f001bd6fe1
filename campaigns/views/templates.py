"""Templates: made, read, changed; and what one says to a customer."""

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from campaigns import templates
from campaigns.models import Template
from campaigns.preview import recipient
from campaigns.serializers.templates import (
    RenderedAnswer,
    RenderWish,
    TemplateAnswer,
    TemplateChange,
    TemplateWish,
    rendered_as_json,
    template_as_json,
)
from config.api import decode
from config.ids import parse_id
from config.lists import Page, page, read_cursor, read_limit, refuse_unknown_parameters
from customers.errors import CustomerNotFound
from tenants.auth import CallerView
from tenants.views import caller_of


class Templates(CallerView):
    """GET and POST /v1/templates."""

    tenant_required = True
    scopes = {"GET": "campaigns:read", "POST": "campaigns:write"}
    bodies = {"POST": TemplateWish}
    answers = {"GET": Page[TemplateAnswer], "POST": {201: TemplateAnswer}}
    filters = ()

    def get(self, request: Request) -> Response:
        refuse_unknown_parameters(request, ())
        limit = read_limit(request)
        rows = Template.objects.filter(deleted_at=None).order_by("-id")
        before = read_cursor(request, UUID)
        rows = rows.filter(pk__lt=before) if before else rows
        place = lambda template: str(template.pk)  # noqa: E731
        return Response(page(rows[: limit + 1], limit=limit, show=template_as_json, place=place))

    def post(self, request: Request) -> Response:
        wish = decode(request, TemplateWish, lines=True)
        made = templates.create(fields=wish.fields(), actor=caller_of(request).actor)
        shown = template_as_json(made)
        return Response(shown, status=201, headers={"Location": f"/v1/templates/{shown['id']}"})


class OneTemplate(CallerView):
    """GET, PATCH and DELETE /v1/templates/{id}."""

    tenant_required = True
    scopes = {
        "GET": "campaigns:read",
        "PATCH": "campaigns:write",
        "DELETE": "campaigns:write",
    }
    bodies = {"PATCH": TemplateChange}
    answers = {"GET": TemplateAnswer, "PATCH": TemplateAnswer, "DELETE": {204: None}}

    def get(self, request: Request, template_id: str) -> Response:
        return Response(template_as_json(templates.find(parse_id("tpl", template_id))))

    def patch(self, request: Request, template_id: str) -> Response:
        template = templates.change(
            template_id=parse_id("tpl", template_id),
            fields=decode(request, TemplateChange, lines=True).fields(),
            actor=caller_of(request).actor,
        )
        return Response(template_as_json(template))

    def delete(self, request: Request, template_id: str) -> Response:
        templates.delete(template_id=parse_id("tpl", template_id), actor=caller_of(request).actor)
        return Response(status=204)


class RenderTemplate(CallerView):
    """POST /v1/templates/{id}/render: what it says to one customer; needs customers:read beside."""

    tenant_required = True
    scopes = {"POST": "campaigns:read"}
    bodies = {"POST": RenderWish}
    answers = {"POST": RenderedAnswer}

    def post(self, request: Request, template_id: str) -> Response:
        caller_of(request).require_scope("customers:read")
        wish = decode(request, RenderWish)
        said = recipient(
            customer_id=parse_id("cus", wish.customer_id),
            mapping=wish.variables,
            message=templates.find(parse_id("tpl", template_id)).parts,
        )
        if said is None:
            raise CustomerNotFound
        return Response(rendered_as_json(said))

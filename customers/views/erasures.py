"""The REST API of erasure: one customer, from everywhere."""

from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from config.ids import parse_id
from customers import erasing
from customers.errors import ErasureNotFound
from customers.jobless import stuck
from customers.models import Erasure
from customers.serializers.erasures import ErasureAnswer, ErasureWish, erasure_as_json
from tenants.auth import Caller, CallerView


class Erase(CallerView):
    """POST /v1/customers/{id}/erase: forget this customer, also in messages and their logs."""

    tenant_required = True
    scopes = {"POST": "customers:write"}
    bodies = {"POST": ErasureWish}
    answers = {"POST": {202: ErasureAnswer}}

    def post(self, request: Request, customer_id: str) -> Response:
        caller: Caller = request.caller  # type: ignore[attr-defined]
        wish = decode(request, ErasureWish)
        begun = erasing.begin(
            customer_id=parse_id("cus", customer_id),
            suppress=wish.suppress,
            actor=caller.actor,
            reason=wish.reason,
        )
        shown = erasure_as_json(begun)
        headers = {"Location": f"/v1/customers/erasures/{shown['id']}"}
        return Response(shown, status=202, headers=headers)


class OneErasure(CallerView):
    """GET /v1/customers/erasures/{id}: how far it is."""

    tenant_required = True
    scopes = {"GET": "customers:read"}
    answers = {"GET": ErasureAnswer}

    def get(self, request: Request, erasure_id: str) -> Response:
        found = Erasure.objects.filter(pk=parse_id("era", erasure_id)).first()
        if found is None:
            raise ErasureNotFound
        return Response(erasure_as_json(found, stuck=bool(stuck([found]))))

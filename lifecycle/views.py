"""The platform's REST API for a tenant's life after its sign-up."""

from django.db import DEFAULT_DB_ALIAS
from rest_framework.request import Request
from rest_framework.response import Response

from config.api import decode
from lifecycle import plans
from lifecycle.errors import NoPlanChange
from lifecycle.serializers import PlanAnswer, PlanWish, plan_move_as_json
from tenants.auth import CallerView, find_tenant
from tenants.context import tenant_context
from tenants.services import Door
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

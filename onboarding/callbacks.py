"""An `http` step that answered 202 tells us that it is done."""

from collections.abc import Mapping
from uuid import UUID, uuid5

import orjson
from django.db import IntegrityError, connection
from psycopg.errors import ForeignKeyViolation

from config.spelling import seen
from jobs.services import wake_after_commit
from onboarding.errors import StepNotBegun, UnknownRequest
from onboarding.models import ProvisionedResource
from onboarding.status import find
from onboarding.steps import step_named
from onboarding.steps.http import HttpStep
from tenants.context import NOWHERE, TenantRef, tenant_context

NO_LEASE = 0  # Nobody held the sign-up: the back end came by itself.


def record_callback(
    request_id: UUID, name: str, *, headers: Mapping[str, str], body: bytes
) -> None:
    """Enter the step as done, and let the sign-up go on; again changes nothing.

    Raises UnknownRequest, StepNotBegun, and WebhookVerificationError when the step's back end did
    not sign it.
    """
    step = step_named(name)
    if not isinstance(step, HttpStep):
        raise UnknownRequest
    step.verify(headers, body)
    row = find(request_id)
    if row is None:
        raise UnknownRequest
    resource = ProvisionedResource(
        id=uuid5(request_id, name),
        step=name,
        name=_resource_name(body),
        detail={"called_back": True},
        lease=NO_LEASE,
        tenant_id=row.tenant_id,
    )
    with tenant_context(TenantRef(row.tenant_id, NOWHERE)):
        _enter(resource)
        with connection.cursor() as cursor:
            cursor.execute("select slipway.hasten_onboarding(%s)", [request_id])
    wake_after_commit("onboarding")


def _enter(resource: ProvisionedResource) -> None:
    try:
        ProvisionedResource.objects.bulk_create([resource], ignore_conflicts=True)
    except IntegrityError as error:
        if isinstance(error.__cause__, ForeignKeyViolation):  # No tenant: not yet, or not any more.
            raise StepNotBegun(headers={"Retry-After": "2"}) from None
        raise


def _resource_name(body: bytes) -> str:
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    return seen(str(said.get("resource", "")))[:255] if isinstance(said, dict) else ""

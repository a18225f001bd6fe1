"""What operators do to endpoints and deliveries."""

from functools import partial
from typing import cast

from django import forms

from config.admin.acts import Act, Asked, Because
from jobs import acts
from tenants.context import NOWHERE, TenantRef
from tenants.routers import as_app
from webhooks import endpoints
from webhooks.models import Delivery, Endpoint


class Enable(Because):
    """What becomes of what was held."""

    discard = forms.BooleanField(
        required=False, label="Give up what was held", help_text="Else it is delivered now."
    )


def _whose(endpoint: Endpoint) -> TenantRef:
    return TenantRef(cast("int", endpoint.tenant_id), NOWHERE)


def _disable(endpoint: Endpoint, asked: Asked) -> None:
    with as_app():
        endpoints.disable(
            tenant=_whose(endpoint),
            endpoint_id=endpoint.pk,
            actor=asked.actor,
            reason=asked.reason,
        )


def _enable(endpoint: Endpoint, asked: Asked) -> None:
    with as_app():
        endpoints.enable(
            tenant=_whose(endpoint),
            endpoint_id=endpoint.pk,
            actor=asked.actor,
            reason=asked.reason,
            discard=asked.values["discard"],
        )


def _lane(endpoint: Endpoint) -> tuple[str, int]:
    return endpoint.lane, cast("int", endpoint.tenant_id)


def _there(endpoint: Endpoint, *, disabled: bool) -> bool:
    return endpoint.deleted_at is None and (endpoint.disabled_at is not None) == disabled


ENDPOINTS = (
    Act(
        name="disable",
        label="Disable",
        permission="steer",
        done="disabled",
        means="It is told nothing for now: what there is to tell is held, and so is what comes.",
        do=_disable,
        fits=partial(_there, disabled=False),
    ),
    Act(
        name="enable",
        label="Enable",
        permission="steer",
        done="enabled",
        means="It begins with a clean slate: what failed before counts no more.",
        do=_enable,
        form=Enable,
        fits=partial(_there, disabled=True),
    ),
    *acts.of_lanes(_lane),
)
DELIVERIES = acts.of_works("deliveries", Delivery)

"""What a tenant may have and do: by default, by its plan, by the platform's word for it alone."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings


def allowances(*, plan: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    """The limits that hold: the tenant's own before its plan's before everybody's.

    "endpoints" is how many; "events" is (how many, in how many seconds).
    """
    slipway: Mapping[str, Any] = settings.SLIPWAY
    of_plan = slipway["PLANS"].get(plan, {}).get("limits", {})
    return {**slipway["TENANT_LIMITS"], **of_plan, **limits}

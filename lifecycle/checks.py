"""System checks: settings that would make a deed fail are found at the start, not by the deed."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

# Days. What slipway.platform_close_tenant takes (tenants/sql/life.sql), and what makes sense.
_LEAST = {"grace": 1, "quarantine": 0}


@register("lifecycle")
def settings_of_closing_are_sound(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """SLIPWAY["CLOSING"]."""
    closing = settings.SLIPWAY["CLOSING"]
    return [
        Error(
            f'SLIPWAY["CLOSING"]["{name}"] is {closing.get(name)!r}: it is a number of days,'
            f" {least} at least.",
            id="lifecycle.E001",
        )
        for name, least in _LEAST.items()
        if not _is_days(closing.get(name), least)
    ]


def _is_days(value: object, least: int) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= least

"""System checks: what the settings say of events is found wrong at the start, not by a deed."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from webhooks import schemas
from webhooks.errors import InvalidSchema

# What slipway.tell_platform takes: webhooks/sql/platform.sql.
_TOLD = re.compile(r"(tenant|endpoint|delivery)\.[a-z_]{1,50}")
_TYPE = re.compile(r"[a-zA-Z0-9_]+(\.[a-zA-Z0-9_]+)*")
_LONGEST = 100


@register("webhooks")
def settings_of_events_are_sound(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """SLIPWAY["PLATFORM_EVENTS"] and ["EVENT_TYPES"]."""
    return [*_platform_events(), *_event_types()]


def _platform_events() -> Iterator[CheckMessage]:
    for name in settings.SLIPWAY["PLATFORM_EVENTS"]:
        if not _TOLD.fullmatch(name):
            yield Error(
                f'SLIPWAY["PLATFORM_EVENTS"]: the database does not take "{name}".',
                hint="Two words: tenant., endpoint. or delivery., then a-z and _, at most 50.",
                id="webhooks.E001",
            )


def _event_types() -> Iterator[CheckMessage]:
    for name, said in settings.SLIPWAY["EVENT_TYPES"].items():
        if len(name) > _LONGEST or not _TYPE.fullmatch(name):
            yield Error(
                f'SLIPWAY["EVENT_TYPES"]: "{name}" is no type of event.',
                hint="Words of letters, digits and _, with dots between; at most 100 characters.",
                id="webhooks.E002",
            )
        try:
            schemas.check(said.get("schema"), pointer=f"/{name}/schema")
        except InvalidSchema as invalid:
            told = "; ".join(f"{error.pointer}: {error.message}" for error in invalid.errors)
            yield Error(f'SLIPWAY["EVENT_TYPES"]: {told or invalid}', id="webhooks.E003")

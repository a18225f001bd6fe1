"""The body of a sign-up, as callers send it."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

import msgspec
from django.conf import settings
from msgspec import UNSET, Meta, Struct, UnsetType

from config.problems import FieldError
from config.spelling import EMAIL_MOST, Flaw, email_flaw, unseen_flaw
from onboarding import names, slugs

Scalar = str | int | float | bool | None
METADATA_KEYS = 50

_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")  # Of BCP 47, the usual.
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")


class SignUp(Struct, forbid_unknown_fields=True, frozen=True):
    """What it takes to open an account."""

    email: Annotated[str, Meta(max_length=EMAIL_MOST, description="Who will own the tenant.")]
    tenant_name: Annotated[
        str, Meta(min_length=names.NAME_LEAST, max_length=names.NAME_MOST, description="Its name.")
    ]
    plan: Annotated[str, Meta(max_length=40, description="One of the plans on offer.")]
    slug: (
        Annotated[
            str, Meta(max_length=slugs.MOST, description="Its address; from the name if absent.")
        ]
        | UnsetType
    ) = UNSET
    external_id: Annotated[str, Meta(min_length=1, max_length=128)] | None = None
    metadata: dict[
        Annotated[str, Meta(min_length=1, max_length=40)],
        Annotated[str, Meta(max_length=500)] | int | float | bool | None,
    ] = {}
    locale: Annotated[str, Meta(max_length=35)] = "en"
    time_zone: Annotated[str, Meta(max_length=64)] = "UTC"

    def flaws(self) -> Iterator[FieldError]:
        """What the types above cannot say: each field's error."""
        for field, check in _CHECKS.items():
            value = getattr(self, field)
            if value is not UNSET and (flaw := check(value)):
                yield FieldError(f"/{field}", *flaw)

    def canonical(self) -> bytes:
        """The body as one byte string, the same for any order of its fields."""
        return msgspec.json.encode(self, order="sorted")


def _plan_flaw(plan: str) -> Flaw:
    if plan in settings.SLIPWAY["PLANS"]:
        return None
    return "plan_unknown", f"The plans are {', '.join(settings.SLIPWAY['PLANS'])}."


def _metadata_flaw(metadata: dict[str, Scalar]) -> Flaw:
    if len(metadata) <= METADATA_KEYS:
        return None
    return "metadata_size", f"Use at most {METADATA_KEYS} entries."


def _locale_flaw(locale: str) -> Flaw:
    if _LOCALE.fullmatch(locale):
        return None
    return "locale_invalid", "Use a language tag such as en, pt-BR or zh-Hant."


def _time_zone_flaw(zone: str) -> Flaw:
    known = _zones()
    if zone in known or (not known and _ZONE.fullmatch(zone)):
        return None
    return "time_zone_unknown", "Use a name of the IANA data base, such as Europe/Zurich."


@cache
def _zones() -> frozenset[str]:
    """The machine's zones; empty where it has no zone data, and names are then taken on trust."""
    return frozenset(available_timezones())


_CHECKS: dict[str, Callable[[Any], Flaw]] = {
    "email": email_flaw,
    "tenant_name": names.name_flaw,
    "plan": _plan_flaw,
    "slug": slugs.flaw,
    "external_id": lambda external_id: unseen_flaw(external_id or ""),
    "metadata": _metadata_flaw,
    "locale": _locale_flaw,
    "time_zone": _time_zone_flaw,
}


# The first check compiles patterns and reads the time zones: 80 ms that no caller should wait for.
list(SignUp(email="somebody@example.org", tenant_name="Somebody", plan="free").flaws())

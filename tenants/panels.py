"""Boxes on the tenant's own page that other apps fill.

settings.SLIPWAY["HOME_PANELS"] lists dotted paths of functions `() -> Panel | None`; each runs in
the tenant's context. So the page can show what apps know that are built on top of this one.
"""

from typing import NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string


class Panel(NamedTuple):
    """A heading and some lines, label and value."""

    title: str
    lines: list[tuple[str, str]]


def panels() -> list[Panel]:
    """What the apps have to say about the current tenant."""
    made = (import_string(path)() for path in settings.SLIPWAY.get("HOME_PANELS", []))
    return [panel for panel in made if panel is not None]

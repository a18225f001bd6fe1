"""How the console shows a value: marks for states, links, times, and strangers' text as text."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Field
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from config.spelling import is_unseen

NOTHING = "–"  # noqa: RUF001 - an en dash: there is no value.
LONGEST_TEXT = 2_000  # Characters of a text in a table or a list of facts.

# A state's tone: what the mark is coloured by. Others are `mute`.
_TONES = {
    "good": {"succeeded", "active", "finished", "replayed", "done", "verified", "completed"},
    "warn": {
        "failed", "held", "throttled", "retry", "paused", "scheduled", "provisioning", "suspended",
        "closing", "discarding", "unknown", "lost", "materialising", "waiting",
    },
    "bad": {"dead_letter", "exhausted", "poison", "undo", "overflow", "disabled", "refused"},
    "busy": {"processing", "running", "pending"},
}  # fmt: skip
_TONE_OF = {word: tone for tone, words in _TONES.items() for word in words}


@dataclass(frozen=True, slots=True)
class Panel:
    """A part of an object's page: a heading, and a template with what it shows."""

    title: str
    template: str
    data: Mapping[str, Any]
    anchor: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A label, and what stands beside it."""

    label: str
    value: Any
    long: bool = False  # To be shown as written, in a box of its own.


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings. A cell is a text, or markup that showing made."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    nothing: str = "None."
    note: str = ""
    more: tuple[str, str] | None = None  # A link below: its address and its words.


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], **more: Any) -> Panel:
    """A panel that is a table."""
    shown = [[value_of(cell) for cell in row] for row in rows]
    return Panel(title, "console/table.html", {"table": Table(columns, shown, **more)})


def facts(title: str, pairs: Iterable[tuple[str, Any]]) -> Panel:
    """A panel of labels and values."""
    shown = [Fact(label, value_of(value)) for label, value in pairs]
    return Panel(title, "console/facts.html", {"facts": shown})


def mark(word: str, text: str = "") -> SafeString:
    """A state as a small mark in its tone."""
    tone = _TONE_OF.get(word, "mute")
    return format_html('<span class="mark mark-{}">{}</span>', tone, text or word.replace("_", " "))


def link(page: str, key: Any, text: Any) -> SafeString | str:
    """A link to an object's page, by the page's name: "jobs_lane"."""
    try:
        address = reverse(f"admin:{page}_change", args=[key])
    except NoReverseMatch:  # Of an app that this process does not have.
        return str(text)
    return format_html('<a href="{}">{}</a>', address, text)


def list_link(page: str, text: Any, **filters: Any) -> SafeString | str:
    """A link to a list, with filters."""
    from django.utils.http import urlencode

    try:
        address = reverse(f"admin:{page}_changelist")
    except NoReverseMatch:
        return str(text)
    return format_html('<a href="{}?{}">{}</a>', address, urlencode(filters), text)


def moment(at: datetime | None) -> SafeString | str:
    """A time, in UTC, to the second; the whole of it in the title."""
    if at is None:
        return NOTHING
    whole = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    text = "for good" if at.year >= 9000 else f"{at:%Y-%m-%d %H:%M:%S}"
    return format_html('<time datetime="{}" title="{}">{}</time>', whole, whole, text)


def visible(text: str, *, most: int = LONGEST_TEXT) -> str:
    """A stranger's text, in which nothing hides: controls and the like are spelled out, and cut.

    Line ends and tabs stay what they are. Escaping is the template's.
    """
    cut = text[:most]
    plain = cut.replace("\n", "").replace("\t", "").isprintable()  # As nearly every text is.
    shown = (
        cut
        if plain
        else "".join(one if one in "\n\t" or not is_unseen(one) else _spelled(one) for one in cut)
    )
    return f"{shown} … ({len(text):,} characters)" if len(text) > most else shown


def pretty(value: Any) -> str:
    """JSON, indented, with nothing hidden in it."""
    text = json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False, default=str)
    return visible(text, most=64 * 1024)


def value_of(value: Any) -> Any:
    """A value as a table or a list of facts shows it."""
    if isinstance(value, SafeString):
        return value
    if value is None or value == "":
        return NOTHING
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float, UUID)):
        return str(value)
    if isinstance(value, (bytes, memoryview)):
        return f"{len(value)} bytes"
    return visible(str(value))


def fact_of(row: Any, column: "Field[Any, Any]") -> Fact:
    """What a column of a row says."""
    label = str(column.verbose_name)
    value = getattr(row, column.attname)
    if isinstance(value, (dict, list)):
        return Fact(label, pretty(value) if value else NOTHING, long=bool(value))
    if column.choices and value:
        return Fact(label, mark(str(value)))
    if isinstance(value, str) and ("\n" in value or len(value) > 120):
        return Fact(label, visible(value), long=True)
    return Fact(label, value_of(value))


def _spelled(letter: str) -> str:
    """As Python writes it: \\x1b, \\u202e."""
    return letter.encode("unicode_escape").decode()


@dataclass(frozen=True, slots=True)
class Named:
    """How tenants are called on a page, looked up once for all of it."""

    slugs: Mapping[int, str] = field(default_factory=dict)

    def of(self, tenant_id: int | None) -> SafeString | str:
        """A link to the tenant; its number where it has no row (yet, or any more)."""
        if tenant_id is None:
            return NOTHING
        slug = self.slugs.get(tenant_id)
        if slug is None:
            return "platform" if tenant_id == PLATFORM else f"№ {tenant_id}"
        return link("tenants_tenant", tenant_id, slug)


PLATFORM = 2**63 - 1  # tenants.context.PLATFORM_ID; this layer may not import it.

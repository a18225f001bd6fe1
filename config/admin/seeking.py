"""The search of the console's lists: what a text means, and which rows it wants.

An id (as the API spells it, or bare), a tenant, a host, or words of an error; `tenant:`, `host:`
and `error:` say which it is. What an index leads to is found at once, however old; the others are
looked for among the newest rows, and further back as long as somebody asks.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.apps import apps
from django.conf import settings
from django.db.models import Q

from config.admin.paging import Wish
from config.admin.showing import PLATFORM

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_HOST = re.compile(r"[A-Za-z0-9_.\[\]:-]{1,255}")
_LONGEST = 200  # Characters of what is sought.


@dataclass(frozen=True, slots=True)
class Sought:
    """What a text wants, and how it was understood."""

    wishes: tuple[Wish, ...]
    says: str


@dataclass(frozen=True, slots=True)
class Related:
    """Another thing's id that leads to rows: its model, and the column that names it."""

    model: str  # "webhooks.Event"
    column: str  # "event_id"
    what: str  # "event"

    def wish(self, uuid: UUID) -> Wish | None:
        """Its rows, by its tenant too: each index begins with that. None when there is none."""
        rows = apps.get_model(self.model)._default_manager.filter(pk=uuid)
        tenant_id = rows.values_list("tenant_id", flat=True).first()
        if tenant_id is None:
            return None
        return Wish(self.what, self.column, uuid, also=Q(tenant_id=int(tenant_id)))


@dataclass(frozen=True, slots=True)
class Searches:
    """What can be sought in one list.

    `prefix` is of the rows' own ids in the API; `related` has others' prefixes. `own` are columns
    in which a bare UUID is sought beside the primary key. `texts` are columns that are sought by
    exactly what is given; `host` and `errors` are columns too. `named` knows of other names.
    """

    prefix: str = ""
    related: Mapping[str, Related] | None = None
    own: Callable[[UUID], Sought | None] | None = None
    named: Callable[[str], Sought | None] | None = None
    names: str = ""  # What `named` knows: "an e-mail address".
    texts: Sequence[str] = ()
    host: str = ""
    errors: str = ""
    tenants: bool = True

    @property
    def help(self) -> str:
        """What the search box says of itself."""
        ways = [
            *(["an id"] if self.prefix or self.own or self.related else []),
            *(["a tenant's slug or tnt_ id"] if self.tenants else []),
            *([self.names] if self.names else []),
            *([" or ".join(self.texts).replace("_", " ")] if self.texts else []),
            *(["a host"] if self.host else []),
            *(["words of an error"] if self.errors else []),
        ]
        return f"Finds {', '.join(ways)}." if ways else ""


def seek(said: str, searches: Searches, *, uuid_key: bool) -> Sought:
    """What a text wants of a list."""
    text = said.strip()[:_LONGEST]
    word, colon, rest = text.partition(":")
    if colon and rest.strip() and word in {"tenant", "host", "error"}:
        return _NAMED[word](rest.strip(), searches)
    found = _by_id(text, searches, uuid_key) or _by_number(text, uuid_key)
    if found is None and searches.named:
        found = searches.named(text)
    if found is not None:
        return found
    if searches.texts:
        return _by_text(text, searches)
    if searches.tenants and _SLUG.fullmatch(text) and tenant_number(text) is not None:
        return _by_tenant(text, searches)
    if searches.host and ("." in text or ":" in text) and _HOST.fullmatch(text):
        return _by_host(text, searches)
    return _by_error(text, searches) if searches.errors else _nothing(text)


def tenant_number(said: str) -> int | None:
    """A tenant's number by slug, tnt_ id, bare UUID or the number itself; None when none is it."""
    if said == "platform":
        return PLATFORM
    if said.isascii() and said.isdigit() and len(said) < 19:
        return int(said)
    rows = _tenants()
    uuid = uuid_in(said)
    rows = rows.filter(uuid=uuid) if uuid else rows.filter(slug=said)
    found = rows.values_list("pk", flat=True).first()
    return None if found is None else int(found)


def uuid_in(text: str) -> UUID | None:
    """The UUID of a text, whatever prefix it has."""
    try:
        return UUID(text.rpartition("_")[2])
    except ValueError:
        return None


def _tenants() -> Any:
    return apps.get_model(settings.TENANT_MODEL)._default_manager.all()


def _by_id(text: str, searches: Searches, uuid_key: bool) -> Sought | None:
    uuid = uuid_in(text)
    if uuid is None:
        return None
    prefix = text.rpartition("_")[0]
    related = searches.related or {}
    if prefix == "tnt" and searches.tenants:
        return _by_tenant(text, searches)
    if prefix in related:
        return _by_related(uuid, related[prefix]) or _nothing(text)
    if searches.own and (found := searches.own(uuid)) is not None:
        return found
    if not prefix:
        for one in related.values():
            if (found := _by_related(uuid, one)) is not None:
                return found
        if searches.tenants and tenant_number(text) is not None:
            return _by_tenant(text, searches)
    return Sought((Wish("pk", "pk", uuid),), f"The one with id {uuid}.") if uuid_key else None


def _by_related(uuid: UUID, related: Related) -> Sought | None:
    wish = related.wish(uuid)
    return Sought((wish,), f"Those of {related.what} {uuid}.") if wish else None


def _by_number(text: str, uuid_key: bool) -> Sought | None:
    if uuid_key or not (text.isascii() and text.isdigit() and len(text) < 19):
        return None
    return Sought((Wish("pk", "pk", int(text)),), f"The one with number {text}.")


def _by_tenant(text: str, searches: Searches) -> Sought:
    number = tenant_number(text)
    if number is None:
        return _nothing(text)
    also = f" Words of an error: error:{text}" if searches.errors else ""
    return Sought((Wish("tenant", "tenant_id", number),), f"Those of tenant {text}.{also}")


def _by_text(text: str, searches: Searches) -> Sought:
    found = Q()
    for column in searches.texts:
        found |= Q(**{column: text})
    named = " or ".join(searches.texts).replace("_", " ")
    return Sought((Wish("text", also=found),), f"Those whose {named} is “{text}”.")


def _by_host(text: str, searches: Searches) -> Sought:
    host = text.lower()
    # By itself, or with any port: both ends of a range in the order of C.
    whole = Q(**{searches.host: host})
    ported = Q(**{f"{searches.host}__gte": f"{host}:", f"{searches.host}__lt": f"{host};"})
    return Sought((Wish("host", also=whole | ported),), f"Those of host {host}.")


def _by_error(text: str, searches: Searches) -> Sought:
    if not searches.errors:
        return _nothing(text)
    said = Q(**{f"{searches.errors}__icontains": text})
    return Sought((Wish("error", also=said),), f"Those whose error has “{text}”.")


def _nothing(text: str) -> Sought:
    return Sought((Wish("pk", also=Q(pk__in=[])),), f"Nothing is called “{text}” here.")


_NAMED: Mapping[str, Callable[[str, Searches], Sought]] = {
    "tenant": _by_tenant,
    "host": lambda text, searches: _by_host(text, searches) if searches.host else _nothing(text),
    "error": _by_error,
}

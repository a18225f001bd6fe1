"""The search of the console's lists: what a text means, and which rows it wants.

An id (as the API spells it, or bare), a tenant, a host, or words of an error; `tenant:`, `host:`,
`error:` and the name of a column that is sought (`prefix:`) say which it is. What an index leads to
is found at once, however old; the others are looked for among the newest rows, and further back as
long as somebody asks.
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
    exactly what is given; `host` and `errors` are columns too. Rows that have no host themselves
    have `hosted`, which says of a host which of them are its. `named` knows of other names.
    """

    prefix: str = ""
    related: Mapping[str, Related] | None = None
    own: Callable[[UUID], Sought | None] | None = None
    named: Callable[[str], Sought | None] | None = None
    names: str = ""  # What `named` knows: "an e-mail address".
    texts: Sequence[str] = ()
    host: str = ""
    hosted: Callable[[str], Q] | None = None
    errors: str = ""
    tenants: bool = True

    @property
    def help(self) -> str:
        """What the search box says of itself."""
        is_hosted = bool(self.host or self.hosted)
        ways = [
            *(["an id"] if self.prefix or self.own or self.related else []),
            *(["a tenant's slug or tnt_ id"] if self.tenants else []),
            *([self.names] if self.names else []),
            *(["its " + " or ".join(self.texts).replace("_", " ")] if self.texts else []),
            *(["a host"] if is_hosted else []),
            *(["words of an error"] if self.errors else []),
        ]
        given = {
            "tenant": self.tenants,
            "host": is_hosted,
            "error": self.errors,
            **dict.fromkeys(self.texts, True),
        }
        words = [f"{word}:…" for word, is_given in given.items() if is_given]
        which = f" {', '.join(words)} say which." if len(words) > 1 else ""
        return f"Finds {', '.join(ways)}.{which}" if ways else ""


def seek(said: str, searches: Searches, *, uuid_key: bool) -> Sought:
    """What a text wants of a list."""
    text = said.strip()[:_LONGEST]
    word, colon, rest = text.partition(":")
    if colon and rest.strip() and word in {"tenant", "host", "error"}:
        return _NAMED[word](rest.strip(), searches)
    if colon and rest.strip() and word in searches.texts:
        return _by_text(rest.strip(), (word,))
    found = _by_id(text, searches, uuid_key) or _by_number(text, uuid_key)
    if found is None and searches.named:
        found = searches.named(text)
    if found is not None:
        return found
    if searches.tenants and _is_tenant(text, searches):
        return _by_tenant(text, searches)
    if searches.texts:
        return _by_text(text, searches.texts)
    if (
        (searches.host or searches.hosted)
        and ("." in text or ":" in text)
        and _HOST.fullmatch(text)
    ):
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


def _is_tenant(text: str, searches: Searches) -> bool:
    """Whether a tenant is called like that. What may be a column's text is no tenant's number."""
    if not _SLUG.fullmatch(text) or (searches.texts and text.isdigit()):
        return False
    return tenant_number(text) is not None


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
    also = [*(["error"] if searches.errors else []), *searches.texts]
    else_ = f" Or is it {' or '.join(f'{one}:{text}' for one in also)}?" if also else ""
    return Sought((Wish("tenant", "tenant_id", number),), f"Those of tenant {text}.{else_}")


def _by_text(text: str, columns: Sequence[str]) -> Sought:
    found = Q()
    for column in columns:
        found |= Q(**{column: text})
    named = " or ".join(columns).replace("_", " ")
    return Sought((Wish("text", also=found),), f"Those whose {named} is “{text}”.")


def of_host(column: str, host: str) -> Q:
    """That a column is a host, by itself or with any port: a range in the order of C."""
    ported = Q(**{f"{column}__gte": f"{host}:", f"{column}__lt": f"{host};"})
    return Q(**{column: host}) | ported


def _by_host(text: str, searches: Searches) -> Sought:
    host = text.lower()
    if not (searches.host or searches.hosted):
        return _nothing(text)
    also = searches.hosted(host) if searches.hosted else of_host(searches.host, host)
    else_ = f" Words of an error: error:{text}" if searches.errors else ""
    return Sought((Wish("host", also=also),), f"Those of host {host}.{else_}")


def _by_error(text: str, searches: Searches) -> Sought:
    if not searches.errors:
        return _nothing(text)
    said = Q(**{f"{searches.errors}__icontains": text})
    return Sought((Wish("error", also=said),), f"Those whose error has “{text}”.")


def _nothing(text: str) -> Sought:
    return Sought((Wish("pk", also=Q(pk__in=[])),), f"Nothing is called “{text}” here.")


_NAMED: Mapping[str, Callable[[str, Searches], Sought]] = {
    "tenant": _by_tenant,
    "host": _by_host,
    "error": _by_error,
}

"""Lists that stay quick however long they are: by keyset, and by the indexes that there are.

A page begins where the one before ended, by the key of its last row: no page is counted, and none
is reached by skipping. What is wanted of a list (its filters, the search) is a set of wishes. A
Walk says which wishes an index leads to in the list's order. Where some are left over, only so many
rows are looked at for a page: it may be short, even empty, and still lead further back.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import quote
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR, ChangeList
from django.core.exceptions import EmptyResultSet, ValidationError
from django.core.paginator import Paginator
from django.db import connections
from django.db.models import F, JSONField, Q, QuerySet, TextField
from django.db.models.fields import BinaryField
from django.http import HttpRequest
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.text import capfirst

OLDER, NEWER = "older", "newer"
_PLACES = (OLDER, NEWER, PAGE_VAR)
LOOKED_AT = 10_000  # Rows for a page, where no index leads to what is wanted.
FURTHER = 100_000  # And for those that go on looking.
_LONGEST_CURSOR = 300

# The order of indexes that were made for lists: no primary key is walked for it, whatever is
# planned (webhooks/migrations/0009).
NEWEST = F("id").desc(nulls_last=True)


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that is wanted of a list: a column's value, or any condition `q`.

    One that is `placed` bounds the list's own key (an age): every walk has it for nothing.
    """

    name: str
    column: str = ""
    value: Any = None
    also: Q = field(default_factory=Q)
    placed: bool = False

    @property
    def q(self) -> Q:
        """The condition."""
        return Q(**{self.column: self.value}) & self.also if self.column else self.also


def pinned(column: str, value: Any) -> Q:
    """A column that has one value, said as a range: see Walk."""
    return Q(**{f"{column}__gte": value, f"{column}__lte": value})


@dataclass(frozen=True, slots=True)
class Walk:
    """An index that leads to the rows of some wishes in the list's order.

    A column that stands in `order` too is asked for as a range of one value. Postgres takes a
    column that equals a value out of the order, and then walks whatever index has the rest of it:
    through all tenants' rows to those of one. `only` names the values that a partial index has.
    """

    by: tuple[str, ...] = ()
    order: tuple[Any, ...] = ("-id",)
    only: Mapping[str, frozenset[Any]] = field(default_factory=dict)

    def suits(self, wishes: Mapping[str, Wish]) -> bool:
        """Whether all that it leads by is wanted."""
        return all(name in wishes for name in self.by) and all(
            wishes[name].value in values for name, values in self.only.items()
        )

    def conditions(self, wishes: Mapping[str, Wish]) -> Q:
        """What its index is asked for."""
        found = Q()
        for name in self.by:
            wish = wishes[name]
            ranged = {wish.column, f"-{wish.column}"} & {*map(str, self.order)}
            found &= pinned(wish.column, wish.value) & wish.also if ranged else wish.q
        return found


@dataclass(frozen=True, slots=True)
class Place:
    """Behind (or, going back to newer ones, before) which row a page begins."""

    values: tuple[Any, ...]
    newer: bool = False
    further: bool = False  # The page before found too little: look at more.


@dataclass(frozen=True, slots=True)
class Look:
    """How far a page looked: so many rows, and to which one; `at_end` when there are no more."""

    rows: int
    edge: tuple[Any, ...] | None
    at_end: bool


class KeysetList(ChangeList):
    """Django's list of a model, page by page along its key.

    The admin says `key` (columns that the list is ordered by, newest first, together unique) and
    `walks`. `asked` is what filters and search want; `looked` how far it was looked, or None when
    an index led to all of it; `older` and `newer` are the links.
    """

    model_admin: Any  # reading.ReadOnlyAdmin, which this is the list of.
    asked: Sequence[Wish]
    says: str
    place: Place | None
    looked: Look | None
    further: bool
    older: str | None
    newer: str | None

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> "QuerySet[Any]":
        """All the rows that are wanted, in no order: for whoever acts on what the list finds.

        Raises IncorrectLookupParameters for what is no filter of the list's own.
        """
        self.place = self._read_place()
        specs: Any = self.get_filters(request)
        self.filter_specs, self.has_filters, remaining, _, self.has_active_filters = specs
        rows = self.root_queryset
        asked = [wish for spec in self.filter_specs if (wish := _wish_of(spec)) is not None]
        for spec in self.filter_specs:
            if not hasattr(spec, "wish"):
                rows = spec.queryset(request, rows) or rows
        sought = self.model_admin.seek(self.query) if self.query.strip() else None
        self.says = sought.says if sought else ""
        self.asked = [*asked, *(sought.wishes if sought else ())]
        filters = [
            name for name in self.filter_params if name != SEARCH_VAR
        ]  # It has its own link.
        self.clear_all_filters_qs = self.get_query_string(remove=filters)
        if remaining:  # Else who may see the list could ask after columns that it does not show.
            raise IncorrectLookupParameters(f"no such filter: {', '.join(sorted(remaining))}")
        self._others = rows is not self.root_queryset
        self._ground = self.apply_select_related(rows.defer(*self._heavy()))
        return self._ground.filter(*(wish.q for wish in self.asked))

    def get_results(self, request: HttpRequest) -> None:
        """One page, and one row more, which says whether there is another."""
        newer = bool(self.place and self.place.newer)
        walk, rest = self._walk()
        walked = self._behind(self._ground.filter(walk), newer).order_by(*self._order)
        walked = walked.reverse() if newer else walked
        needs_look = bool(rest) or self._others
        self.looked = self._look(self.root_queryset, walk, newer) if needs_look else None
        rows = walked.filter(*(wish.q for wish in rest))
        if self.looked and self.looked.edge:
            rows = rows.filter(self._bound(self.looked.edge, newer=newer, inclusive=True))
        found = list(rows[: self.list_per_page + 1])
        self._lead_on(found, newer)

    # ---- What is wanted, and the index that leads there ----

    def _walk(self) -> tuple[Q, list[Wish]]:
        """The conditions that the best index is asked for, and the wishes that are left over."""
        placed = [wish for wish in self.asked if wish.placed]
        wishes = {wish.name: wish for wish in self.asked if not wish.placed}
        walk = next(walk for walk in self.model_admin.get_walks() if walk.suits(wishes))
        self._order = walk.order
        conditions = walk.conditions(wishes)
        for wish in placed:
            conditions &= wish.q
        # Two of one name are both wanted: the search may name another tenant than the filter.
        led = [wishes[name] for name in walk.by]
        left = [w for w in self.asked if not w.placed and not any(w is one for one in led)]
        return conditions, left

    def _look(self, rows: "QuerySet[Any]", walk: Q, newer: bool) -> Look:
        """How far this page may look: one statement, mostly from the index alone."""
        most = FURTHER if self.place and self.place.further else LOOKED_AT
        looked = self._behind(rows.filter(walk), newer).order_by(*self._order)
        looked = (looked.reverse() if newer else looked).values_list(*self._key)[:most]
        try:
            inner, values = looked.query.get_compiler(looked.db).as_sql()
        except EmptyResultSet:  # It is known beforehand that nothing is like that.
            return Look(0, None, True)
        way = "desc" if newer else "asc"
        ends = ", ".join(f"{n} {way}" for n in range(1, len(self._key) + 1))
        # The ORM's own statement, with its parameters; nothing of a caller's is put in.
        statement = f"select *, count(*) over () from ({inner}) looked order by {ends} limit 1"  # noqa: S608
        with connections[looked.db].cursor() as cursor:
            cursor.execute(statement, values)
            row = cursor.fetchone()
        if row is None:
            return Look(0, None, True)
        return Look(row[-1], tuple(row[:-1]), row[-1] < most)

    # ---- Places ----

    @property
    def _key(self) -> tuple[str, ...]:
        key: tuple[str, ...] = self.model_admin.key
        return key

    def _behind(self, rows: "QuerySet[Any]", newer: bool) -> "QuerySet[Any]":
        if self.place is None:
            return rows
        return rows.filter(self._bound(self.place.values, newer=not newer, inclusive=False))

    def _bound(self, values: tuple[Any, ...], *, newer: bool, inclusive: bool) -> Q:
        """What lies on one side of a place: for `newer`, up to it from below, else from above."""
        way = "lt" if newer else "gt"
        name, *more = self._key
        last = Q(**{f"{self._key[-1]}__{way}{'e' * inclusive}": values[-1]})
        if not more:
            return last
        # The first condition is what an index is asked for; an OR alone is not.
        return Q(**{f"{name}__{way}e": values[0]}) & (Q(**{f"{name}__{way}": values[0]}) | last)

    def _lead_on(self, found: list[Any], newer: bool) -> None:
        """Set what the page shows, and the links to what is newer and older."""
        more = len(found) > self.list_per_page
        shown = found[: self.list_per_page]
        shown = shown[::-1] if newer else shown
        ahead, further = self._ahead(shown, more, newer)
        # Behind us is what we came from: at a place there is always something.
        back = self._key_of(shown[-1 if newer else 0]) if shown else None
        if back is None and self.place is not None:
            back = self.place.values
        behind = back if self.place is not None else None
        older, younger = (behind, ahead) if newer else (ahead, behind)
        self.further = further
        self.older = self._link(OLDER, older, further and not newer)
        self.newer = self._link(NEWER, younger, further and newer)
        self.model_admin.gather(shown)
        self._tell_django(shown)

    def _ahead(self, shown: list[Any], more: bool, newer: bool) -> tuple[Any, bool]:
        """Where the next page begins, and whether it is for looking at more rows."""
        if more:
            return self._key_of(shown[0 if newer else -1]), False
        if self.looked and not self.looked.at_end:
            return self.looked.edge, True
        return None, False

    @property
    def title(self) -> str:
        """What it is a list of."""
        return str(capfirst(self.opts.verbose_name_plural))

    @title.setter
    def title(self, said: str) -> None:
        """Django says: select one to view."""

    def _tell_django(self, shown: list[Any]) -> None:
        """What the rest of Django's admin wants to know of a list."""
        self.result_list = shown
        self.result_count = len(shown)
        self.full_result_count = None
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = Paginator(shown, max(1, self.list_per_page))

    def _key_of(self, row: Any) -> tuple[Any, ...]:
        return tuple(getattr(row, name) for name in self._key)

    def _heavy(self) -> list[str]:
        """Columns that no list shows: bodies, documents."""
        return [
            one.name
            for one in self.opts.concrete_fields
            if isinstance(one, (JSONField, TextField, BinaryField))
            and one.name not in {*self.list_display, *self.model_admin.list_reads}
        ]

    # ---- Links ----

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """What is wanted, with other values, None for none, and without some; from the newest on.

        Django's takes all away that begins like a name: `plan` and `paused` with `p`.
        """
        gone = {*(remove or []), *_PLACES, *(new_params or {})}
        kept = {name: value for name, value in self.filter_params.items() if name not in gone}
        said = {name: value for name, value in (new_params or {}).items() if value is not None}
        return f"?{urlencode(sorted({**kept, **said}.items()), doseq=True)}"

    def url_for_result(self, result: Any) -> str:
        """Django's, by the address that the admin gives a row."""
        page = f"admin:{self.opts.app_label}_{self.opts.model_name}_change"
        return reverse(page, args=[quote(self.model_admin.address(result))])

    @property
    def query_string(self) -> str:
        """What is wanted, without the place: for whoever acts on all that it finds."""
        return self.get_query_string()

    @property
    def without_search(self) -> str:
        """The same without the search."""
        return self.get_query_string(remove=[SEARCH_VAR])

    @property
    def looked_back_to(self) -> datetime | None:
        """The time of the last row that was looked at, where its key tells."""
        edge = self.looked.edge[0] if self.looked and self.looked.edge else None
        if isinstance(edge, UUID):
            return datetime.fromtimestamp((edge.int >> 80) / 1000, tz=UTC)
        return edge if isinstance(edge, datetime) else None

    def _link(self, way: str, values: tuple[Any, ...] | None, further: bool) -> str | None:
        if values is None:
            return None
        place = json.dumps([*map(str, values), *([True] if further else [])]).encode()
        cursor = base64.urlsafe_b64encode(place).decode().rstrip("=")
        return f"?{urlencode([*sorted(self.filter_params.items()), (way, cursor)], doseq=True)}"

    def _read_place(self) -> Place | None:
        """The place in the address, taken out of what filters see."""
        given = {name: self.params.pop(name, None) for name in _PLACES}
        for name in _PLACES:
            self.filter_params.pop(name, None)
        text = given[NEWER] or given[OLDER]
        if not text:
            return None
        try:
            if len(text) > _LONGEST_CURSOR:
                raise ValueError
            read = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True))
            further = read[-1] is True
            values = read[:-1] if further else read
            fields: list[Any] = [self.opts.get_field(name) for name in self._key]
            pairs = zip(fields, values, strict=True)
            clean = tuple(one.to_python(value) for one, value in pairs)
        except (ValueError, TypeError, IndexError, binascii.Error, ValidationError) as error:
            raise IncorrectLookupParameters("the place is not one of ours") from error
        return Place(clean, newer=bool(given[NEWER]), further=further)


def _wish_of(spec: Any) -> Wish | None:
    wish: Wish | None = spec.wish() if hasattr(spec, "wish") else None
    return wish

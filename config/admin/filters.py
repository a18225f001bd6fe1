"""Filters of the console's lists: each is one wish (config.admin.paging), never a scan of its own.

Their choices are known beforehand: what a column happens to hold is not looked up.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib.admin import ListFilter
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from config.admin.paging import Wish
from config.admin.seeking import tenant_number

_AGES = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7)}


class Wished(ListFilter):
    """A filter by one parameter of the address."""

    title = ""
    parameter_name: ClassVar[str] = ""

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.admin = model_admin
        # An act in bulk reads a filter again, as it was when it was asked for (console.bulk).
        self.now: datetime = getattr(request, "as_of", None) or timezone.now()
        # As Django's own filters spell it too.
        given = [params.pop(f"{self.parameter_name}{end}", None) for end in ("", "__exact")]
        values = given[0] or given[1]
        self.value = str(values[-1]).strip() if values else ""
        if self.value:
            self.used_parameters[self.parameter_name] = self.value

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [self.parameter_name]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Any]") -> "QuerySet[Any]":
        """For whoever filters without the list's walks."""
        wish = self.wish()
        return queryset if wish is None else queryset.filter(wish.q)

    def wish(self) -> Wish | None:
        """What it wants; None when nothing is said."""
        raise NotImplementedError


class Choice(Wished):
    """One of some words, as links."""

    column: ClassVar[str] = ""
    words: ClassVar[Callable[[], Iterable[tuple[Any, str]]]]

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        values = {str(value): value for value, _ in type(self).words()}
        if self.value not in values:
            return Wish(self.parameter_name, also=Q(pk__in=[]))
        return Wish(self.parameter_name, self.column, values[self.value])

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield self._choice(changelist, "", "All")
        for value, text in type(self).words():
            yield self._choice(changelist, str(value), text)

    def _choice(self, changelist: Any, value: str, text: str) -> dict[str, Any]:
        said = {self.parameter_name: value or None}
        return {
            "selected": self.value == value,
            "query_string": changelist.get_query_string(said),
            "display": text,
        }


def choice(
    column: str,
    words: Iterable[Any] | Callable[[], Iterable[Any]],
    *,
    title: str = "",
    name: str = "",
) -> type[Choice]:
    """A filter by a column's value, of `words`: values, or pairs of a value and its text."""

    def pairs() -> list[tuple[Any, str]]:
        some = words() if callable(words) else words
        return [one if isinstance(one, tuple) else (one, _text(one)) for one in some]

    said = {
        "column": column,
        "parameter_name": name or column,
        "title": title or (name or column).replace("_", " "),
        "words": staticmethod(pairs),
    }
    return type(f"By{(name or column).title().replace('_', '')}", (Choice,), said)


class Presence(Choice):
    """Whether a column has a value: `yes` or `no`."""

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        if self.value not in {"yes", "no"}:
            return Wish(self.parameter_name, also=Q(pk__in=[]))
        return Wish(self.parameter_name, f"{self.column}__isnull", self.value == "no")


def presence(column: str, *, yes: str, no: str, name: str) -> type[Presence]:
    """A filter by whether a column has a value; what that is called, and when it has none."""
    said = {
        "column": column,
        "parameter_name": name,
        "title": name.replace("_", " "),
        "words": staticmethod(lambda: [("yes", yes), ("no", no)]),
    }
    return type(f"By{name.title()}", (Presence,), said)


class Text(Wished):
    """Any text, in a small form."""

    template = "console/filter_text.html"
    hint: ClassVar[str] = ""

    def choices(self, changelist: Any) -> Iterator[Any]:
        others = {
            name: values
            for name, values in changelist.filter_params.items()
            if name != self.parameter_name
        }
        yield {
            "name": self.parameter_name,
            "value": self.value,
            "hint": self.hint,
            "others": [(name, value) for name, values in others.items() for value in values],
            "without": changelist.get_query_string({self.parameter_name: None}),
        }


def text(column: str, *, title: str = "", hint: str = "") -> type[Text]:
    """A filter by a column's exact text."""

    def wish(self: Text) -> Wish | None:
        return Wish(self.parameter_name, column, self.value) if self.value else None

    said = {"parameter_name": column, "title": title or column, "hint": hint, "wish": wish}
    return type(f"By{column.title()}", (Text,), said)


class Beginning(Text):
    """How a text begins, such as that of an error."""

    column: ClassVar[str] = ""

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        return Wish(self.parameter_name, also=Q(**{f"{self.column}__startswith": self.value}))


def beginning(column: str, *, name: str, hint: str = "") -> type[Beginning]:
    """A filter by how a column's text begins."""
    said = {"column": column, "parameter_name": name, "title": name, "hint": hint}
    return type(f"By{name.title()}", (Beginning,), said)


class ByTenant(Text):
    """By slug, tnt_ id or number."""

    title = parameter_name = "tenant"
    hint = "slug or tnt_…"

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        number = tenant_number(self.value)
        if number is None:
            return Wish("tenant", also=Q(pk__in=[]))
        return Wish("tenant", "tenant_id", number)


class ByLane(Text):
    """By a lane's key: the admin knows which of its columns says the same by an index."""

    title = parameter_name = "lane"
    hint = "endpoint:…"

    def wish(self) -> Wish | None:
        return self.admin.wish_of_lane(self.value) if self.value else None


class ByTime(Choice):
    """By a moment: within the last hour, older than one, or `FROM..TO`, both in ISO 8601.

    FROM is in it and TO is not; either may be left out.
    """

    @staticmethod
    def words() -> Iterable[tuple[Any, str]]:
        yield from ((f"-{name}", f"within the last {name}") for name in _AGES)
        yield from ((f"+{name}", f"older than one {name}") for name in _AGES)

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield from super().choices(changelist)
        if ".." in self.value:
            yield self._choice(changelist, self.value, self.value.replace("..", " to "))

    def span(self) -> tuple[datetime | None, datetime | None]:
        """From when, and until before when. Raises ValueError."""
        if ".." in self.value:
            first, _, last = self.value.partition("..")
            return _moment(first), _moment(last)
        side, name = self.value[:1], self.value[1:]
        if name not in _AGES or side not in {"-", "+"}:
            raise ValueError(self.value)
        edge = self.now - _AGES[name]
        return (edge, None) if side == "-" else (None, edge)

    def within(self, column: str, as_value: Callable[[datetime], Any]) -> Q:
        """The condition that a column is within it; of what cannot be read, none is."""
        try:
            first, last = self.span()
            low = Q(**{f"{column}__gte": as_value(first)}) if first else Q()
            return low & (Q(**{f"{column}__lt": as_value(last)}) if last else Q())
        except (ValueError, OverflowError):
            return Q(pk__in=[])


class ByAge(ByTime):
    """By when a row was made. Ids of version 7 tell it: the key itself is bounded."""

    title = parameter_name = "age"

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        column = self.admin.key[0]
        as_value: Callable[[datetime], Any] = first_id if column == "id" else lambda at: at
        return Wish("age", also=self.within(column, as_value), placed=True)


class ByEnd(ByTime):
    """By when a work came to its end."""

    title = parameter_name = "ended"

    def wish(self) -> Wish | None:
        if not self.value:
            return None
        return Wish("ended", also=self.within("finished_at", lambda at: at))


def first_id(at: datetime) -> UUID:
    """The lowest UUID of version 7 of a moment."""
    milliseconds = int(at.astimezone(UTC).timestamp() * 1000)
    return UUID(int=(milliseconds << 80) | (7 << 76) | (2 << 62))


def _moment(text: str) -> datetime | None:
    """A moment in ISO 8601, in UTC where it says nothing else; None of no text.

    A plus that the address did not spell out has become a blank. Raises ValueError.
    """
    if not text.strip():
        return None
    at = datetime.fromisoformat(text.strip().replace(" ", "+"))
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _text(word: Any) -> str:
    return str(word).replace("_", " ")

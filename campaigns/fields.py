"""What there is to know of a customer: the fields that filters and templates name.

`attributes.<key>` is the attribute of that key, whatever dots are in it. Where there is none, what
stands before the first dot is an attribute that is an object, and the rest a member of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

from config.problems import FieldError

ATTRIBUTES = "attributes."
KEY_MOST = 129  # Characters: a key of 64, a dot, and a member's of 64.

# Writes a parameter down and gives what stands for it in the SQL: (value, its type in Postgres).
Bind = Callable[[Any, str], str]


class Kind(StrEnum):
    """What a field holds, which decides what it may be compared with."""

    TEXT = "text"  # Empty is not set.
    AMOUNT = "amount"  # In the tenant's own currency (customers.currency): nothing is converted.
    MOMENT = "moment"
    CHOICE = "choice"  # One of a few words.
    ATTRIBUTE = "attribute"  # Any JSON; absent, null and the empty text are not set.


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a customer's; `always` is whether each customer has it."""

    name: str
    kind: Kind
    always: bool = False

    @property
    def key(self) -> str:
        """An attribute's key."""
        return self.name.removeprefix(ATTRIBUTES)

    def sql(self, bind: Bind) -> str:
        """Its value in a row of customers named `c`: jsonb for an attribute."""
        if self.kind is not Kind.ATTRIBUTE:
            return f"c.{self.name}"
        whole = f"c.attributes -> {bind(self.key, 'text')}"
        outer, dot, inner = self.key.partition(".")
        if not dot:
            return f"({whole})"
        nested = f"c.attributes -> {bind(outer, 'text')} -> {bind(inner, 'text')}"
        return f"coalesce({whole}, {nested})"


FIELDS: Mapping[str, Field] = {
    field.name: field
    for field in (
        Field("external_id", Kind.TEXT),
        Field("name", Kind.TEXT),
        Field("phone", Kind.TEXT),
        Field("email", Kind.TEXT),
        Field("lifetime_value", Kind.AMOUNT, always=True),
        Field("last_purchase_at", Kind.MOMENT),
        Field("consent", Kind.CHOICE, always=True),
        Field("created_at", Kind.MOMENT, always=True),
        Field("updated_at", Kind.MOMENT, always=True),
    )
}


def read(name: Any, pointer: str) -> Field | FieldError:
    """The field of that name, or what is wrong with the name."""
    if not isinstance(name, str):
        return FieldError(pointer, "wrong_type", "A field's name is a text.")
    if name in FIELDS:
        return FIELDS[name]
    if not name.startswith(ATTRIBUTES):
        known = [*FIELDS, f"{ATTRIBUTES}<key>"]
        return FieldError(pointer, "unknown_field", unknown("field", name, known))
    key = name.removeprefix(ATTRIBUTES)
    if not key or len(key) > KEY_MOST or not is_storable(key):
        return FieldError(pointer, "invalid_name", f"A key has 1 to {KEY_MOST} characters.")
    return Field(name, Kind.ATTRIBUTE)


def is_storable(text: str) -> bool:
    """Whether Postgres takes the text: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def unknown(what: str, name: Any, known: Sequence[str]) -> str:
    """The sentence that says so, what was meant perhaps, and what there is."""
    text = name if isinstance(name, str) and is_storable(name) else ""
    close = get_close_matches(text[:100], known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"There is no such {what}.{hint} There are: {', '.join(known)}."

"""One condition of a filter: what may be asked of which field, and its SQL.

Nothing a caller says becomes part of the SQL but as a parameter. There is no LIKE, whose wildcards
would need care, and no expression of a caller's. A condition on a field that is not set is null or
false: `campaigns.filters` takes the one for the other.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
import orjson

from campaigns import fields
from campaigns.fields import Bind, Field, Kind
from config import moments
from config.problems import FieldError, escape
from customers.models import Consent

TEXT_MOST = 500  # Characters of a text to compare with.
LIST_MOST = 1000
DAYS_MOST = 36_500
_NUMBER_MOST = 2**63  # As config.api has it.

_EQUAL = ("=", "!=", "in", "not_in")
_ORDERED = ("<", "<=", ">", ">=")
_TEXT = ("contains", "starts_with")
_MOMENT = ("before", "after", "within_last", "not_within_last")
_SET = ("is_set", "is_not_set")
OPERATORS: Mapping[Kind, tuple[str, ...]] = {
    Kind.TEXT: (*_EQUAL, *_TEXT, *_SET),
    Kind.AMOUNT: (*_EQUAL, *_ORDERED),
    Kind.MOMENT: (*_MOMENT, *_SET),
    Kind.CHOICE: _EQUAL,
    Kind.ATTRIBUTE: (*_EQUAL, *_ORDERED, *_TEXT, *_MOMENT, *_SET),
}
# True exactly where the other is not, of what is not set too.
_OPPOSITE = {"!=": "=", "not_in": "in", "is_not_set": "is_set"}
_CASES = ("=", "!=", "in", "not_in", "contains", "starts_with")  # Those with ignore_case.

# A date, or the one that a time begins with.
_DATE = "'^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])([T ]|$)'"


@dataclass(frozen=True, slots=True)
class Condition:
    """One question about one field."""

    field: Field
    op: str
    value: Any = None  # A list for in and not_in, a number of days for within_last.
    ignore_case: bool = False
    never: bool = False  # Whether not_within_last takes in who has no such time.

    def sql(self, at: datetime, bind: Bind) -> str:
        """The condition over a customer `c`, `at` being now; null counts as false."""
        if self.op in _OPPOSITE:
            positive = Condition(self.field, _OPPOSITE[self.op], self.value, self.ignore_case)
            return f"({positive.sql(at, bind)}) is not true"
        if self.field.kind is Kind.ATTRIBUTE:
            return _attribute_sql(self, at, bind)
        column = self.field.sql(bind)
        if self.field.kind is Kind.MOMENT:
            return _moment_sql(self, at, bind, column)
        if self.field.kind is Kind.AMOUNT:
            return _amount_sql(self, bind, column)
        return _text_sql(self, bind, column)


# ---- SQL ----


def _text_sql(condition: Condition, bind: Bind, text: str) -> str:
    op, value = condition.op, condition.value
    fold = "lower({})".format if condition.ignore_case else "{}".format
    if op == "is_set":
        return f"{text} <> ''"
    if op == "in":
        values = bind(value, "text[]")
        if condition.ignore_case:
            return f"lower({text}) in (select lower(u) from unnest({values}) u)"  # noqa: S608
        return f"{text} = any({values})"
    other = fold(bind(value, "text"))
    if op == "contains":
        return f"strpos({fold(text)}, {other}) > 0"
    if op == "starts_with":
        return f"starts_with({fold(text)}, {other})"
    return f"{fold(text)} = {other}"


def _amount_sql(condition: Condition, bind: Bind, column: str) -> str:
    if condition.op == "in":
        return f"{column} = any({bind(condition.value, 'numeric[]')})"
    return f"{column} {condition.op} {bind(condition.value, 'numeric')}"


def _moment_sql(condition: Condition, at: datetime, bind: Bind, column: str) -> str:
    match condition.op:
        case "is_set":
            return f"{column} is not null"
        case "before":
            return f"{column} < {bind(condition.value, 'timestamptz')}"
        case "after":
            return f"{column} >= {bind(condition.value, 'timestamptz')}"
    since = bind(at - timedelta(days=condition.value), "timestamptz")
    return _within_sql(condition, f"{column} >= {since}", f"{column} < {since}")


def _within_sql(condition: Condition, inside: str, outside: str) -> str:
    if condition.op == "within_last":
        return inside
    return f"({inside}) is not true" if condition.never else outside


def _attribute_sql(condition: Condition, at: datetime, bind: Bind) -> str:
    """Of jsonb, of any type: no comparison fails for a value of another."""
    op, value = condition.op, condition.value
    json = condition.field.sql(bind)
    text = f"case when jsonb_typeof({json}) = 'string' then {json} #>> '{{}}' end"
    if op == "is_set":
        return f"{json} <> 'null' and {json} <> '\"\"'"
    if op in _MOMENT:
        return _date_sql(condition, at, bind, text)
    if op in _ORDERED:
        # Numbers are before and behind other types, in jsonb's order.
        return f"jsonb_typeof({json}) = 'number' and {json} {op} {bind(_json(value), 'jsonb')}"
    if op == "contains":
        return _attribute_contains_sql(condition, bind, json, text)
    if op == "starts_with" or condition.ignore_case:
        return _text_sql(condition, bind, f"({text})")
    if op == "in":
        return f"{json} = any({bind([_json(item) for item in value], 'text[]')}::jsonb[])"
    return f"{json} = {bind(_json(value), 'jsonb')}"


def _attribute_contains_sql(condition: Condition, bind: Bind, json: str, text: str) -> str:
    """A part of a text, or an item of an array."""
    value = condition.value
    is_array = f"jsonb_typeof({json}) = 'array'"
    item = f"{is_array} and {json} @> {bind(_json([value]), 'jsonb')}"
    if not isinstance(value, str):
        return item
    if condition.ignore_case:
        items = f"jsonb_array_elements(case when {is_array} then {json} else '[]' end)"
        same = f"lower(e #>> '{{}}') = lower({bind(value, 'text')})"
        item = f"exists (select from {items} e where jsonb_typeof(e) = 'string' and {same})"
    return f"({_text_sql(condition, bind, f'({text})')}) or ({item})"


def _date_sql(condition: Condition, at: datetime, bind: Bind, text: str) -> str:
    """Of a text that begins with a date: by that date, as letters, so that no cast can fail."""
    day = f'(case when ({text}) ~ {_DATE} then left({text}, 10) end collate "C")'
    if condition.op in {"before", "after"}:
        compare = "<" if condition.op == "before" else ">="
        return f"{day} {compare} {bind(condition.value.isoformat(), 'text')}"
    first = at.astimezone(UTC).date() - timedelta(days=condition.value)
    since = bind(first.isoformat(), "text")
    return _within_sql(condition, f"{day} >= {since}", f"{day} < {since}")


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


# ---- Reading ----


class Unreadable(Exception):
    """A value that cannot be asked for: a code, a sentence, and which item of a list it is."""

    def __init__(self, code: str, message: str, item: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.item = code, message, item


def read(raw: Mapping[str, Any], pointer: str) -> Condition | list[FieldError]:
    """A condition as JSON says it, or everything that is wrong with it."""
    field = fields.read(raw.get("field"), f"{pointer}/field")
    if isinstance(field, FieldError):
        return [field]
    known, op = OPERATORS[field.kind], raw.get("op")
    if field.always:
        known = tuple(each for each in known if each not in _SET)
    if not isinstance(op, str) or op not in known:
        message = fields.unknown(f"operator for {field.kind} fields", op, known)
        return [FieldError(f"{pointer}/op", "unknown_operator", message)]
    errors = list(_member_errors(raw, field, op, pointer))
    try:
        value = _read_value(raw, field, op)
    except Unreadable as error:
        place = f"{pointer}/{'days' if op in _MOMENT[2:] else 'value'}"
        if error.item is not None:
            place += f"/{error.item}"
        if place not in {known.pointer for known in errors}:  # It may be missing.
            errors.append(FieldError(place, error.code, error.message))
    if errors:
        return errors
    return Condition(field, op, value, raw.get("ignore_case") is True, raw.get("never") is True)


def _member_errors(
    raw: Mapping[str, Any], field: Field, op: str, pointer: str
) -> Iterator[FieldError]:
    """Members that are missing, are too many, or are not true or false."""
    needed, allowed = {"field", "op"}, set[str]()
    if op in _MOMENT[2:]:
        needed.add("days")
        if op == "not_within_last" and not field.always:
            needed.add("never")
    elif op not in _SET:
        needed.add("value")
    if op in _CASES and field.kind in {Kind.TEXT, Kind.ATTRIBUTE}:
        allowed.add("ignore_case")
    for name in sorted(needed - raw.keys()):
        sentence = "Say whether those who have no such time are in." if name == "never" else ""
        yield FieldError(f"{pointer}/{name}", "required", sentence or "Required.")
    for name in sorted(raw.keys() - needed - allowed):
        known = sorted(needed | allowed)
        message = fields.unknown(f"member beside {op}", name, known)
        yield FieldError(f"{pointer}/{escape(name)}", "unknown_field", message)
    for name in ("ignore_case", "never"):
        if name in (needed | allowed) & raw.keys() and not isinstance(raw[name], bool):
            yield FieldError(f"{pointer}/{name}", "wrong_type", "Say true or false.")


def _read_value(raw: Mapping[str, Any], field: Field, op: str) -> Any:
    """What the field is compared with. Raises Unreadable."""
    if op in _SET:
        return None
    if op in _MOMENT[2:]:
        return _days(raw.get("days"))
    value = raw.get("value")
    read = _reader(field, op)
    if op not in {"in", "not_in"}:
        found = read(value)
        if raw.get("ignore_case") is True and not isinstance(found, str):
            raise Unreadable("wrong_type", "Only of a text the case can be ignored.")
        return found
    if not isinstance(value, list) or not 1 <= len(value) <= LIST_MOST:
        raise Unreadable("wrong_type", f"A list of 1 to {LIST_MOST}.")
    reader = _text if raw.get("ignore_case") is True else read
    return [_item(reader, index, item) for index, item in enumerate(value)]


def _item(read: Callable[[Any], Any], index: int, item: Any) -> Any:
    try:
        return read(item)
    except Unreadable as error:
        raise Unreadable(error.code, error.message, index) from None


def _reader(field: Field, op: str) -> Callable[[Any], Any]:
    if field.kind is Kind.ATTRIBUTE:
        if op in _ORDERED:
            return _number
        if op in _MOMENT:
            return _day
        return _text if op == "starts_with" else _scalar
    return {
        Kind.TEXT: _text,
        Kind.AMOUNT: _amount,
        Kind.MOMENT: _moment,
        Kind.CHOICE: _consent,
    }[field.kind]


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Unreadable("wrong_type", "It is compared with a text.")
    if not value:
        raise Unreadable("too_short", "Nothing equals an empty text: ask is_set or is_not_set.")
    if len(value) > TEXT_MOST:
        raise Unreadable("too_long", f"At most {TEXT_MOST} characters.")
    if not fields.is_storable(value):
        raise Unreadable("control_character", "It has characters in it that no text has.")
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unreadable("wrong_type", "It is compared with a number.")
    if not math.isfinite(value) or abs(value) >= _NUMBER_MOST:
        raise Unreadable("out_of_range", "Numbers have at most 64 bits.")
    return value


def _scalar(value: Any) -> str | int | float | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value)
    if not isinstance(value, str):
        raise Unreadable("wrong_type", "It is compared with a text, a number, true or false.")
    return _text(value)


def _amount(value: Any) -> Decimal:
    """A number, or a text of one, as the API shows amounts."""
    try:
        amount = Decimal(value if isinstance(value, str) and len(value) <= 40 else _number(value))
        if isinstance(value, float):
            amount = Decimal(repr(value))
    except (Unreadable, InvalidOperation):
        raise Unreadable("wrong_type", "It is compared with an amount, as 1000 or 12.50.") from None
    if not amount.is_finite() or abs(amount) >= Decimal("1e12"):
        raise Unreadable("out_of_range", "It is out of range.")
    if int(amount.as_tuple().exponent) < -2:
        raise Unreadable("too_precise", "At most two decimal places.")
    return amount.quantize(Decimal("0.01"))


def _moment(value: Any) -> datetime:
    """A time with its zone, or a date, which is its midnight in UTC."""
    if isinstance(value, str) and len(value) == 10:
        day = _day(value)
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    try:
        if not isinstance(value, str):
            raise ValueError
        return moments.utc(msgspec.convert(value, datetime))
    except (ValueError, msgspec.ValidationError):
        message = "A time with its zone, as 2026-01-31T12:00:00Z, or a date."
        raise Unreadable("invalid_format", message) from None


def _day(value: Any) -> date:
    try:
        if not isinstance(value, str):
            raise ValueError
        return msgspec.convert(value, date)
    except (ValueError, msgspec.ValidationError):
        raise Unreadable("invalid_format", "A date, as 2026-01-31.") from None


def _days(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= DAYS_MOST:
        raise Unreadable("out_of_range", f"A whole number of days from 1 to {DAYS_MOST}.")
    return value


def _consent(value: Any) -> str:
    if not isinstance(value, str) or value not in Consent.values:
        raise Unreadable("unknown_value", f"One of {', '.join(Consent.values)}.")
    return value

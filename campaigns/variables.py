"""Variables in a message's text: `{{ first_name }}`, and where each takes what it says.

A mapping names each one's source: {"field": "attributes.first_name", "default": "there"}, or
{"value": "Monday"} for the same to everybody. What a recipient's message says is worked out in SQL
when the audience is made, and kept with the message; it is never sent with a gap in it.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from campaigns import fields
from campaigns.errors import InvalidTemplate, InvalidVariables
from campaigns.fields import Bind, Field, Kind
from config.problems import FieldError, escape
from config.spelling import is_unseen

TEXT_MOST = 4096  # Characters, of a template and of what is made of it: WhatsApp's own limit.
VALUE_MOST = 1024  # Characters that one variable says.
VARIABLES_MOST = 50
NAME = re.compile(r"[A-Za-z0-9_]{1,50}")
# What shows nothing, so that a text of nothing else is empty: the same in Python and in SQL.
BLANK = (
    " \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\u2800\u3000\u3164"
    "\ufeff"
)

# Not within a third brace, which would stay behind.
_VARIABLE = re.compile(r"(?<!\{)\{\{[ \t]*([A-Za-z0-9_]{1,50})[ \t]*\}\}(?!\})")
# Braces that were meant to be a variable: two of them, or one around a name.
_STRAY = re.compile(r"\{\{|\}\}|\{[ \t]*[A-Za-z_][A-Za-z0-9_.]*[ \t]*\}")
_MEMBERS = ("field", "default", "value")


class CannotRender(ValueError):
    """A text cannot be made for this recipient: something is missing, or it is too long."""


@dataclass(frozen=True, slots=True)
class Expression:
    """SQL over `customers_customer c` for what a message's variables say to each customer."""

    params: str  # A jsonb object: variable → text.
    missing: str  # Why there is no message (≤ 100 characters: a variable, mostly); null: there is.
    values: dict[str, Any]  # The parameters of both, named v_0, v_1, ….


# ---- Texts ----


def names(text: str) -> list[str]:
    """The variables of a text, each once, in the order in which they first appear."""
    return list(dict.fromkeys(_VARIABLE.findall(text)))


def bare(text: str) -> str:
    """The text without its variables."""
    return _VARIABLE.sub("", text)


def check_text(text: str, *, pointer: str = "/text") -> None:
    """Raises InvalidTemplate with everything that is wrong with a template's text."""
    if errors := list(text_errors(text, pointer)):
        raise InvalidTemplate(errors=errors)


def text_errors(text: str, pointer: str) -> Iterator[FieldError]:
    """What is wrong with a template's text."""
    if not text.strip(BLANK):
        yield FieldError(pointer, "too_short", "A message says something.")
    elif len(text) > TEXT_MOST:
        yield FieldError(pointer, "too_long", f"At most {TEXT_MOST} characters.")
    elif not fields.is_storable(text):
        yield FieldError(pointer, "control_character", "It has characters that no text has.")
    elif stray := _stray(text):
        place, braces = stray
        line, column = text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)
        message = (
            f"{braces[:60]!r} in line {line}, column {column} is no variable: write {{{{ name }}}}."
        )
        yield FieldError(pointer, "not_a_variable", message)
    elif len(names(text)) > VARIABLES_MOST:
        yield FieldError(pointer, "too_many", f"At most {VARIABLES_MOST} variables.")


def render(text: str, params: Mapping[str, str]) -> str:
    """The text with what each variable says; what that says is not looked into again.

    Raises CannotRender for a variable that says nothing, and for a text that grows too long.
    """

    def say(found: re.Match[str]) -> str:
        said = params.get(found[1])
        if not isinstance(said, str) or not said.strip(BLANK):
            raise CannotRender(f"The variable {found[1]} says nothing.")
        return said

    made = _VARIABLE.sub(say, text)
    if len(made) > TEXT_MOST:
        raise CannotRender(f"The text has {len(made)} characters; at most {TEXT_MOST} are sent.")
    return made


def _stray(text: str) -> tuple[int, str] | None:
    """Where the first braces stand that are no variable, and they themselves."""
    # As many characters as before, so that places stay what they are.
    rest = _VARIABLE.sub(lambda found: " " * len(found[0]), text)
    found = _STRAY.search(rest)
    return (found.start(), found[0]) if found else None


# ---- Mappings ----


def check(text: str, mapping: Mapping[str, Any], *, pointer: str = "/variables") -> None:
    """Raises InvalidVariables: one of the text's has no source, or a source is none.

    Sources of variables that the text does not name are allowed, and checked.
    """
    errors = list(_mapping_errors(mapping, pointer))
    for name in names(text):
        if name not in mapping:
            message = f"Say where {name} comes from: a field, or a value."
            errors.append(FieldError(f"{pointer}/{escape(name)}", "required", message))
    if errors:
        raise InvalidVariables(errors=errors)


def _mapping_errors(mapping: Mapping[str, Any], pointer: str) -> Iterator[FieldError]:
    if len(mapping) > VARIABLES_MOST:
        yield FieldError(pointer, "too_many", f"At most {VARIABLES_MOST} variables.")
        return
    for name, source in mapping.items():
        place = f"{pointer}/{escape(name)}"
        if not NAME.fullmatch(name):
            message = "A variable's name has letters, digits and _, at most 50."
            yield FieldError(place, "invalid_name", message)
        elif not isinstance(source, Mapping):
            message = 'Say {"field": …} or {"value": …}.'
            yield FieldError(place, "wrong_type", message)
        else:
            yield from _source_errors(source, place)


def _source_errors(source: Mapping[str, Any], place: str) -> Iterator[FieldError]:
    for name in sorted(source.keys() - set(_MEMBERS)):
        message = fields.unknown("member", name, _MEMBERS)
        yield FieldError(f"{place}/{escape(name)}", "unknown_field", message)
    if ("field" in source) == ("value" in source):
        yield FieldError(place, "field_or_value", 'Say either "field" or "value".')
    elif "field" in source:
        found = fields.read(source["field"], f"{place}/field")
        if isinstance(found, FieldError):
            yield found
        if source.get("default") is not None:
            yield from _said_errors(source["default"], f"{place}/default")
    else:
        yield from _said_errors(source["value"], f"{place}/value")
        if "default" in source:
            yield FieldError(f"{place}/default", "needless", "A value needs no default.")


def _said_errors(said: Any, place: str) -> Iterator[FieldError]:
    """What is wrong with a text that is to stand in a message."""
    if not isinstance(said, str):
        yield FieldError(place, "wrong_type", "A text.")
    elif not said.strip(BLANK):
        yield FieldError(place, "too_short", "It may not be blank.")
    elif len(said) > VALUE_MOST:
        yield FieldError(place, "too_long", f"At most {VALUE_MOST} characters.")
    elif not fields.is_storable(said) or any(map(is_unseen, said)):
        message = "It has invisible or control characters in it."
        yield FieldError(place, "unseen_character", message)


# ---- SQL ----


def expression(
    mapping: Mapping[str, Any], *, text: str | None = None, time_zone: str = "UTC"
) -> Expression:
    """What the variables say to each customer, and why one gets no message.

    With a `text`, it is about that text's variables in their order, and its length too. Times are
    said as dates in `time_zone`. Raises InvalidVariables.
    """
    check(text or "", mapping)
    parameters: dict[str, Any] = {}

    def bind(value: Any, kind: str) -> str:
        name = f"v_{len(parameters)}"
        parameters[name] = value
        return f"%({name})s::{kind}"

    wanted = names(text) if text is not None else sorted(mapping)
    if not wanted:
        return Expression("'{}'::jsonb", "null::text", {})
    blank = bind(BLANK, "text")
    said = {name: _said_sql(mapping[name], bind, blank, time_zone) for name in wanted}
    members = ", ".join(f"{bind(name, 'text')}, {sql}" for name, sql in said.items())
    missing = _missing_sql(mapping, said, _length_sql(text, said), bind)
    return Expression(f"jsonb_build_object({members})", missing, parameters)


def _said_sql(source: Mapping[str, Any], bind: Bind, blank: str, time_zone: str) -> str:
    """What one variable says, null for nothing."""
    if "value" in source:
        return bind(source["value"], "text")
    field = fields.read(source["field"], "")
    assert isinstance(field, Field)  # noqa: S101 - check() was here before.
    said = f"nullif(btrim({_readable_sql(field, bind, time_zone)}, {blank}), '')"
    if source.get("default") is None:
        return said
    return f"coalesce({said}, {bind(source['default'], 'text')})"


def _readable_sql(field: Field, bind: Bind, time_zone: str) -> str:
    """A field as a reader would write it; null for what is no text, number or time."""
    value = field.sql(bind)
    match field.kind:
        case Kind.AMOUNT:
            return f"{value}::text"
        case Kind.MOMENT:
            return f"to_char({value} at time zone {bind(time_zone, 'text')}, 'YYYY-MM-DD')"
        case Kind.ATTRIBUTE:
            return (
                f"case when jsonb_typeof({value}) in ('string', 'number')"
                f" then {value} #>> '{{}}' end"
            )
    return value


def _missing_sql(
    mapping: Mapping[str, Any], said: Mapping[str, str], length: str | None, bind: Bind
) -> str:
    """Why there is no message. First a cheap look, which most customers pass."""
    # What is the same for everybody was looked at already.
    asked = {name: sql for name, sql in said.items() if "value" not in mapping[name]}
    fine = [_fine_sql(mapping[name], sql, bind) for name, sql in asked.items()]
    fine += [f"{length} <= {TEXT_MOST}" if length else None]
    looks = [look for look in fine if look]
    if not looks:
        return "null::text"
    cases = [f"when {' and '.join(looks)} then null"]
    for name, sql in asked.items():
        too_long = bind(f"{name}: longer than {VALUE_MOST} characters", "text")
        cases.append(f"when ({sql}) is null then {bind(name, 'text')}")
        cases.append(f"when char_length({sql}) > {VALUE_MOST} then {too_long}")
    if length:
        too_long = f"'text: longer than {TEXT_MOST} characters'"
        cases.append(f"when {length} > {TEXT_MOST} then {too_long}")
    return f"case {' '.join(cases)} end"


def _fine_sql(source: Mapping[str, Any], said: str, bind: Bind) -> str | None:
    """True only if a variable says something, and not too much; None where it always does.

    No column of a customer's but the attributes holds VALUE_MOST characters.
    """
    field = fields.read(source["field"], "")
    assert isinstance(field, Field)  # noqa: S101 - check() was here before.
    value, has_default = field.sql(bind), source.get("default") is not None
    if field.kind is Kind.ATTRIBUTE:
        # A text has no more characters than bytes, and a float no more than 330 of them.
        small = f"coalesce(pg_column_size({value}) <= {VALUE_MOST // 2}, true)"
        return small if has_default else f"char_length({said}) <= {VALUE_MOST}"
    if has_default or field.always:
        return None
    # A first letter that can be seen.
    return (
        f"ascii({value}) between 33 and 126" if field.kind is Kind.TEXT else f"{value} is not null"
    )


def _length_sql(text: str | None, said: Mapping[str, str]) -> str | None:
    """How long the text becomes; None where it cannot be too long."""
    if text is None:
        return None
    rest, found = len(_VARIABLE.sub("", text)), _VARIABLE.findall(text)
    if rest + len(found) * VALUE_MOST <= TEXT_MOST:
        return None
    lengths = [f"{found.count(name)} * char_length({sql})" for name, sql in said.items()]
    return f"{rest} + {' + '.join(lengths)}"

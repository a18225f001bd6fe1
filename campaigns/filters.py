"""Filters over customers: a small tree that becomes one SQL condition.

    {"all": [{"field": "lifetime_value", "op": ">", "value": 10000},
             {"not": {"field": "attributes.city", "op": "in", "value": ["Berlin", "Ulm"]}}]}

docs/segments.md says what it means, docs/decisions/0019 why. A condition is true or it is not: what
is not set equals nothing, so that `!=` and `not` are true of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from django.utils import timezone

from campaigns import conditions
from campaigns.conditions import Condition
from campaigns.errors import InvalidFilter
from campaigns.fields import Bind
from config.problems import FieldError, escape

DEPTH_MOST = 8  # A condition alone is one deep.
CONDITIONS_MOST = 100
SIZE_MOST = 48 * 1024  # Bytes of JSON.
_ERRORS_MOST = 20  # Told at once.
_FORMS = ("all", "any", "not", "field")


@dataclass(frozen=True, slots=True)
class Every:
    """All of these; of none, everybody."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of these."""

    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """Whoever is not meant by this."""

    part: "Node"


Node = Every | Some | Not | Condition


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter that was read and may be asked."""

    root: Node

    def sql(self, at: datetime | None = None) -> tuple[str, dict[str, Any]]:
        """A condition over `customers_customer c`, and its parameters, named f_0, f_1, ….

        `at` is when "the last N days" end; now, where nothing is said. Null means no, as in any
        WHERE. The condition is one operand: it needs no brackets.
        """
        parameters: dict[str, Any] = {}

        def bind(value: Any, kind: str) -> str:
            name = f"f_{len(parameters)}"
            parameters[name] = value
            return f"%({name})s::{kind}"

        return _sql(self.root, at or timezone.now(), bind), parameters


def parse(raw: Any, *, pointer: str = "/filter") -> Filter:
    """Read a filter. Raises InvalidFilter with what is wrong, at `pointer` and below."""
    reader = _Reader()
    root = reader.node(raw, pointer, 1)
    errors = reader.errors
    if not errors and len(orjson.dumps(raw)) > SIZE_MOST:
        errors = [FieldError(pointer, "too_long", f"At most {SIZE_MOST} bytes of JSON.")]
    if root is None or errors:
        raise InvalidFilter(errors=errors[:_ERRORS_MOST])
    return Filter(root)


def _sql(node: Node, at: datetime, bind: Bind) -> str:
    match node:
        case Every(parts):
            return f"({' and '.join(_sql(part, at, bind) for part in parts) or 'true'})"
        case Some(parts):
            return f"({' or '.join(_sql(part, at, bind) for part in parts)})"
        case Not(part):
            # Not `not`: of null it would make null, and leave out whoever has no such value.
            return f"({_sql(part, at, bind)} is not true)"
    return f"({node.sql(at, bind)})"


class _Refused(Exception):
    """A part of the tree that cannot be read, and why."""

    def __init__(self, pointer: str, code: str, message: str) -> None:
        super().__init__(message)
        self.error = FieldError(pointer, code, message)


class _Reader:
    """Goes through a tree once; keeps every error, and how many conditions there were."""

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self.conditions = 0

    def node(self, raw: Any, pointer: str, depth: int) -> Node | None:
        """What stands there, None where it cannot be read."""
        try:
            return self._node(raw, pointer, depth)
        except _Refused as refused:
            self.errors.append(refused.error)
            return None

    def _node(self, raw: Any, pointer: str, depth: int) -> Node | None:
        if not isinstance(raw, Mapping):
            raise _Refused(pointer, "wrong_type", "A filter is an object.")
        if depth > DEPTH_MOST:
            raise _Refused(pointer, "too_deep", f"It nests deeper than {DEPTH_MOST} levels.")
        form = next((form for form in _FORMS if form in raw), None)
        if form is None:
            message = 'Say "all", "any", "not" or "field"; {"all": []} is everybody.'
            raise _Refused(pointer, "required", message)
        if form == "field":
            return self._condition(raw, pointer)
        for name in sorted(raw.keys() - {form}):
            message = f"Beside {form} stands nothing else."
            self.errors.append(FieldError(f"{pointer}/{escape(name)}", "unknown_field", message))
        if form == "not":
            part = self.node(raw["not"], f"{pointer}/not", depth + 1)
            return Not(part) if part is not None else None
        return self._list(raw[form], form, f"{pointer}/{form}", depth)

    def _list(self, raw: Any, form: str, pointer: str, depth: int) -> Node:
        if not isinstance(raw, list):
            raise _Refused(pointer, "wrong_type", "A list of filters.")
        if not raw and form == "any":
            raise _Refused(pointer, "too_short", "Nobody is one of none.")
        if len(raw) > CONDITIONS_MOST:
            raise _Refused(pointer, "too_many", f"At most {CONDITIONS_MOST} conditions.")
        read = [self.node(part, f"{pointer}/{n}", depth + 1) for n, part in enumerate(raw)]
        parts = tuple(part for part in read if part is not None)
        return Every(parts) if form == "all" else Some(parts)

    def _condition(self, raw: Mapping[str, Any], pointer: str) -> Condition | None:
        self.conditions += 1
        if self.conditions > CONDITIONS_MOST:
            raise _Refused(pointer, "too_many", f"At most {CONDITIONS_MOST} conditions.")
        found = conditions.read(raw, pointer)
        if isinstance(found, Condition):
            return found
        self.errors += found
        return None

"""JSON Schema (draft 2020-12) of events' data: which are taken, and what they find.

A schema is the platform's, the data is a tenant's: a schema is refused where data could be made for
it that keeps a process busy. So there are no regular expressions (Python's can be made to run for
years), nothing is fetched from elsewhere, and references are followed a bounded number of times.
"""

from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import orjson
import referencing
import referencing.jsonschema
from jsonschema import Draft202012Validator, exceptions, validators
from referencing.exceptions import Unresolvable

from config.problems import FieldError, escape
from webhooks.errors import InvalidSchema

SIZE_LIMIT = 32 * 1024  # Bytes of JSON.
DEPTH_LIMIT = 32  # Nested arrays and objects.
MOST_ERRORS = 20  # Told of one event.
MOST_STEPS = 10_000  # References followed for one event: about half a second.
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_EXPRESSIONS = {"pattern", "patternProperties"}
_REFERENCES = {"$ref", "$dynamicRef"}
# Their members are names of somebody's, not keywords.
_NAMED = {"properties", "$defs", "dependentSchemas", "definitions"}
_VALUES = {"const", "enum", "default", "examples", "dependentRequired", "required"}


class TooCostly(Exception):
    """The schema follows its references for ever, or nearly so."""


_steps: ContextVar[list[int]] = ContextVar("steps")


def check(schema: Any, *, pointer: str = "") -> None:
    """Raises InvalidSchema with everything that is wrong, at `pointer` and below."""
    if schema is None or isinstance(schema, bool):
        return
    errors = list(_bounds(schema, pointer)) or [
        *_refused(schema, pointer),
        *_invalid(schema, pointer),
    ]
    if not errors:
        errors = list(_dangling(schema, pointer))
    if errors:
        raise InvalidSchema(errors=errors[:MOST_ERRORS])


@lru_cache(maxsize=1000)
def validator(name: str, version: int, schema: bytes) -> Any:
    """The validator of one version of a type, made once: a version's schema never changes."""
    return _Validator(orjson.loads(schema), registry=referencing.Registry())


def flaws(validator: Any, data: Any, *, pointer: str) -> Iterator[FieldError]:
    """What the schema says against the data, each with the JSON pointer of the part it is about."""
    token = _steps.set([0])
    try:
        for count, error in enumerate(validator.iter_errors(data)):
            if count == MOST_ERRORS:
                return
            place = "".join(f"/{escape(part)}" for part in error.absolute_path)
            yield FieldError(f"{pointer}{place}", f"schema_{_snake(error)}", _sentence(error))
    except (TooCostly, RecursionError, Unresolvable):
        yield FieldError(pointer, "schema_too_costly", "Its schema takes too long to check it.")
    finally:
        _steps.reset(token)


# ---- Which schemas are taken ----


def _bounds(schema: Any, pointer: str) -> Iterator[FieldError]:
    if not isinstance(schema, Mapping):
        yield FieldError(pointer, "wrong_type", "A schema is an object, true or false.")
    elif len(orjson.dumps(schema)) > SIZE_LIMIT:
        yield FieldError(pointer, "too_long", f"At most {SIZE_LIMIT} bytes of JSON.")
    elif _depth(schema) > DEPTH_LIMIT:
        yield FieldError(pointer, "too_deep", f"It nests deeper than {DEPTH_LIMIT} levels.")


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list):
        return 1 + max(map(_depth, inner), default=0)
    return 0


def _refused(schema: Any, pointer: str) -> Iterator[FieldError]:
    """Keywords that are JSON Schema and not taken here."""
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from _refused(item, f"{pointer}/{index}")
    if not isinstance(schema, Mapping):
        return
    for keyword, value in schema.items():
        place = f"{pointer}/{escape(keyword)}"
        if keyword in _EXPRESSIONS:
            yield FieldError(place, "no_expressions", "Regular expressions are not taken.")
        elif keyword in _REFERENCES and not str(value).startswith("#"):
            yield FieldError(place, "remote_reference", "Only references within (#…) are taken.")
        elif keyword == "$schema" and value != DIALECT:
            yield FieldError(place, "unknown_dialect", f"Only {DIALECT} is taken.")
        elif keyword == "$id":
            yield FieldError(place, "no_id", "A schema here has no other address.")
        elif keyword in _NAMED and isinstance(value, Mapping):
            for name, inner in value.items():
                yield from _refused(inner, f"{place}/{escape(name)}")
        elif keyword not in _VALUES:
            yield from _refused(value, place)


def _invalid(schema: Any, pointer: str) -> Iterator[FieldError]:
    """What the metaschema says against it."""
    meta = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    for error in meta.iter_errors(schema):
        place = "".join(f"/{escape(part)}" for part in error.absolute_path)
        yield FieldError(f"{pointer}{place}", "invalid_schema", _sentence(error))


def _dangling(schema: Any, pointer: str) -> Iterator[FieldError]:
    """References that lead nowhere."""
    resource = referencing.jsonschema.DRAFT202012.create_resource(schema)
    resolver = referencing.Registry().with_resource("", resource).resolver()
    for place, reference in _references(schema, pointer):
        try:
            resolver.lookup(reference)
        except Unresolvable:
            yield FieldError(place, "dangling_reference", "It leads nowhere.")


def _references(schema: Any, pointer: str) -> Iterator[tuple[str, str]]:
    if isinstance(schema, list):
        for index, item in enumerate(schema):
            yield from _references(item, f"{pointer}/{index}")
    elif isinstance(schema, Mapping):
        for keyword, value in schema.items():
            place = f"{pointer}/{escape(keyword)}"
            if keyword in _REFERENCES and isinstance(value, str):
                yield place, value
            elif keyword not in _VALUES:
                yield from _references(value, place)


# ---- How they are checked ----


def _counted(keyword: str) -> Any:
    """The keyword as jsonschema checks it, and no more often than MOST_STEPS."""
    whole = Draft202012Validator.VALIDATORS[keyword]

    def follow(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        steps = _steps.get([0])
        steps[0] += 1
        if steps[0] > MOST_STEPS:
            raise TooCostly
        return whole(validator, value, instance, schema)

    return follow


def _unique(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """uniqueItems in one pass; jsonschema's own compares each item with each."""
    is_bound = wanted and isinstance(instance, list)
    if is_bound and len({_frozen(item) for item in instance}) != len(instance):
        yield exceptions.ValidationError("has items that are the same")


def _frozen(value: Any) -> Any:
    """Equal for what JSON Schema calls equal: 1 is 1.0, and true is not 1."""
    if isinstance(value, Mapping):
        return frozenset((name, _frozen(item)) for name, item in value.items())
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return (type(value) is bool, value)


def _expression(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
    """An expression where `check` does not look: a reference can lead into a default value."""
    raise TooCostly


_Validator: Any = validators.extend(
    Draft202012Validator,
    {"uniqueItems": _unique}
    | {keyword: _counted(keyword) for keyword in _REFERENCES}
    | dict.fromkeys(_EXPRESSIONS, _expression),
)


def _snake(error: Any) -> str:
    keyword = error.validator or "false"  # The schema `false` has no keyword.
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in keyword).strip("_$")


def _sentence(error: Any) -> str:
    """jsonschema's message, without the data: it may be long, and nobody's to read."""
    if error.validator in {"required", "additionalProperties", "dependentRequired"}:
        return f"{error.message[:300]}."
    wanted = orjson.dumps(error.validator_value, default=str).decode()
    return f"It must keep to {error.validator}: {wanted[:200]}."

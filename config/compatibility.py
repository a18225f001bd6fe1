"""Which changes of the OpenAPI document would break the programs that were written against it.

Whoever sends what the earlier document allowed must still be understood, and must still find in the
answer what it promised. More may be taken and more may be answered at any time: callers ignore
members that they do not know.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_METHODS = ("get", "post", "put", "patch", "delete")
_LEAST = ("minLength", "minItems", "minimum", "minProperties")
_MOST = ("maxLength", "maxItems", "maximum", "maxProperties")

Json = Mapping[str, Any]


def breaks(before: Json, after: Json) -> list[str]:
    """What callers of `before` would stumble over in `after`, each as a sentence."""
    return list(_Comparison(before, after).breaks())


class _Comparison:
    """Two documents side by side."""

    def __init__(self, before: Json, after: Json) -> None:
        self.before, self.after = before, after
        self._open: list[tuple[str, str]] = []

    def breaks(self) -> Iterator[str]:
        for path, operations in self.before["paths"].items():
            for method in _METHODS:
                if method in operations:
                    where = f"{method.upper()} {path}"
                    after = self.after["paths"].get(path, {}).get(method)
                    if after is None:
                        yield f"{where} is gone."
                    else:
                        yield from self._operation(operations[method], after, where)

    def _operation(self, before: Json, after: Json, where: str) -> Iterator[str]:
        if {} in before.get("security", [{}]) and {} not in after.get("security", [{}]):
            yield f"{where} asks for a key."
        yield from self._parameters(before, after, where)
        yield from self._body(before, after, where)
        for status, answer in before["responses"].items():
            now = after["responses"].get(status)
            if now is None:
                yield f"{where} answers no {status}."
                continue
            for media, content in answer.get("content", {}).items():
                if media not in now.get("content", {}):
                    yield f"{where} answers {status} without {media}."
                else:
                    schema = now["content"][media]["schema"]
                    place = f"{where}, the answer {status}"
                    yield from self._schema(content["schema"], schema, place, sent=False)

    def _parameters(self, before: Json, after: Json, where: str) -> Iterator[str]:
        earlier, later = _by_name(before), _by_name(after)
        for key, parameter in earlier.items():
            if key not in later:
                yield f"{where}: the parameter {key[1]} is gone."
            else:
                place = f"{where}, the parameter {key[1]}"
                schema = later[key]["schema"]
                yield from self._schema(parameter["schema"], schema, place, sent=True)
        for key, parameter in later.items():
            was = earlier.get(key, {}).get("required", False)
            if parameter.get("required", False) and not was:
                yield f"{where}: the parameter {key[1]} is required."

    def _body(self, before: Json, after: Json, where: str) -> Iterator[str]:
        earlier, later = _json_body(before), _json_body(after)
        if earlier is None and later is not None and after["requestBody"].get("required"):
            yield f"{where} asks for a body."
        if earlier is not None and later is None:
            yield f"{where} takes no body."
        if earlier is not None and later is not None:
            yield from self._schema(earlier, later, f"{where}, the body", sent=True)

    def _schema(
        self, before: Json | bool, after: Json | bool, where: str, *, sent: bool
    ) -> Iterator[str]:
        """Compare, but not a schema that holds itself for ever."""
        pair = (str(before), str(after))
        if pair not in self._open:
            self._open.append(pair)
            yield from self._by_type(before, after, where, sent=sent)
            self._open.pop()

    def _by_type(
        self, before: Json | bool, after: Json | bool, where: str, *, sent: bool
    ) -> Iterator[str]:
        """Compare each alternative with its like."""
        earlier = _alternatives(before, self.before)
        later = _alternatives(after, self.after)
        wider, narrower = (later, earlier) if sent else (earlier, later)
        if earlier and later and not narrower.keys() <= wider.keys():
            now = " or ".join(sorted(later))
            yield f"{where} is {now}, not {' or '.join(sorted(earlier))}."
        for kind in earlier.keys() & later.keys():
            yield from _values(earlier[kind], later[kind], where, sent=sent)
            yield from self._members(earlier[kind], later[kind], where, sent=sent)
            if "items" in earlier[kind] and "items" in later[kind]:
                items = (earlier[kind]["items"], later[kind]["items"])
                yield from self._schema(*items, f"{where}[]", sent=sent)

    def _members(self, before: Json, after: Json, where: str, *, sent: bool) -> Iterator[str]:
        earlier, later = before.get("properties", {}), after.get("properties", {})
        for name, schema in earlier.items():
            if name in later:
                yield from self._schema(schema, later[name], f"{where}.{name}", sent=sent)
            elif not sent or after.get("additionalProperties") is False:
                yield f"{where}.{name} is gone."
        needed, needs = set(before.get("required", [])), set(after.get("required", []))
        if sent:
            yield from (f"{where}.{name} is required." for name in sorted(needs - needed))
        else:
            may_miss = (needed - needs) & later.keys()
            yield from (f"{where}.{name} may be missing." for name in sorted(may_miss))


def _values(before: Json, after: Json, where: str, *, sent: bool) -> Iterator[str]:
    """What the values may be: wider where they are sent, narrower where they are answered."""
    earlier, later = before.get("enum"), after.get("enum")
    if sent and later is not None:
        lost = "any other value" if earlier is None else _listed(set(earlier) - set(later))
        if lost:
            yield f"{where} takes no {lost}."
    if not sent and earlier is not None:
        new = "any other value" if later is None else _listed(set(later) - set(earlier))
        if new:
            yield f"{where} may be {new}."
    if not sent:
        return
    infinite = float("inf")
    for bound in _MOST:
        if after.get(bound, infinite) < before.get(bound, infinite):
            yield f"{where} has {bound} {after[bound]}."
    for bound in _LEAST:
        if after.get(bound, -infinite) > before.get(bound, -infinite):
            yield f"{where} has {bound} {after[bound]}."
    if after.get("pattern") not in {None, before.get("pattern")}:
        yield f"{where} has another pattern."


def _alternatives(schema: Json | bool, document: Json) -> dict[str, Json]:
    """The schema's types, each with what is said of it; empty where anything may be."""
    if isinstance(schema, bool):  # What comes after the last item of a tuple: nothing.
        return {}
    if isinstance(schema, bool):  # `true`: anything.
        return {}
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return _alternatives(document["components"]["schemas"][name], document)
    found: dict[str, Json] = {}
    for each in schema.get("anyOf", []):
        found |= _alternatives(each, document)
    if "enum" in schema and "type" not in schema:
        found |= {"string": schema}
    kinds = schema.get("type", [])
    return found | dict.fromkeys([kinds] if isinstance(kinds, str) else kinds, schema)


def _by_name(operation: Json) -> dict[tuple[str, str], Json]:
    return {(each["in"], each["name"]): each for each in operation.get("parameters", [])}


def _json_body(operation: Json) -> Json | None:
    content: Json = operation.get("requestBody", {}).get("content", {})
    schema: Json | None = content.get("application/json", {}).get("schema")
    return schema


def _listed(values: set[Any]) -> str:
    return ", ".join(sorted(map(str, values)))

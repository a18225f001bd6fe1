"""The OpenAPI document, made from what the views already say of themselves.

A view's `bodies` maps methods to the Structs that `decode` reads, its `uploads` to the media types
of files. Its `answers` maps them to what they answer: a TypedDict (with 200),
or status codes (with a media type, where it is no JSON) and their TypedDicts, None for no body. Its
`filters` names the query parameters of GET, `parameters` others ({"DELETE": {"reason": "query"}}),
its `scopes` the scopes. Served at /v1/openapi.json; made once in each process.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
import orjson
from django.http import HttpRequest, HttpResponse
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent

_REFERENCE = "#/components/schemas/{name}"
_SECURITY = "key"
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details.",
    "required": ["type", "title", "status", "code", "trace_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "What programs compare."},
        "trace_id": {"type": "string"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "code", "message"],
                "properties": {
                    "pointer": {"type": "string", "description": "RFC 6901."},
                    "code": {"type": "string"},
                    "message": {"type": "string"},
                },
            },
        },
    },
}
_PAGE = {
    "limit": {"type": "integer", "minimum": 1, "maximum": 100, "default": 50},
    "cursor": {"type": "string", "description": "The next_cursor of the page before."},
}


class LeanSchema(AutoSchema):
    """Reads what a LeanAPIView says of itself. DRF serializers work as ever."""

    def get_request_serializer(self) -> Any:
        if kinds := getattr(self.view, "uploads", {}).get(self.method):
            return {kind: {"type": "string", "format": "binary"} for kind in kinds}
        shape = getattr(self.view, "bodies", {}).get(self.method)
        return None if shape is None else {"application/json": self._schema_of(shape)}

    def get_response_serializers(self) -> Any:
        answers = getattr(self.view, "answers", {}).get(self.method)
        if not isinstance(answers, Mapping):
            answers = {204 if self.method == "DELETE" else 200: answers}
        self._register("Problem", _PROBLEM)
        problem = {"$ref": _REFERENCE.format(name="Problem")}
        described = {
            # (200, "text/csv") where it is no JSON.
            (str(status[0]), status[1]) if isinstance(status, tuple) else str(status): (
                self._schema_of(shape)
            )
            for status, shape in answers.items()
        }
        return described | {("4XX", "application/problem+json"): problem}

    def get_override_parameters(self) -> list[Any]:
        return []

    def _get_parameters(self) -> list[dict[str, Any]]:
        parameters: list[dict[str, Any]] = super()._get_parameters()
        others = getattr(self.view, "parameters", {}).get(self.method, {})
        if getattr(self.view, "tenant_required", False):
            others = {"Slipway-Tenant": "header", **others}
        parameters += [
            {"name": name, "in": place, "schema": {"type": "string"}}
            for name, place in others.items()
        ]
        filters = getattr(self.view, "filters", None)
        if self.method == "GET" and filters is not None:
            known = {name: {"type": "string"} for name in filters} | _PAGE
            parameters += [
                {"name": name, "in": "query", "schema": schema} for name, schema in known.items()
            ]
        return parameters

    def get_auth(self) -> list[dict[str, Any]]:
        scope = getattr(self.view, "scopes", {}).get(self.method)
        return [{_SECURITY: []}] if scope else [{}, {_SECURITY: []}]

    def get_description(self) -> str:  # type: ignore[override]
        scope = getattr(self.view, "scopes", {}).get(self.method)
        text: str = super().get_description()
        return f"{text}\n\nScope: `{scope}`." if scope else text

    def get_operation_id(self) -> str:
        # The platform's own are the tenants' views, mounted again.
        owner = "Platform" if getattr(self.view, "own_of_platform", False) else ""
        return f"{self.method.lower()}{owner}{type(self.view).__name__}"

    def get_tags(self) -> list[str]:
        return [str(self.path).removeprefix("/v1/").partition("/")[0]]

    def _schema_of(self, shape: Any) -> dict[str, Any] | None:
        """The JSON Schema of a Struct or TypedDict, its parts among the document's components."""
        if shape is None:
            return None
        (schema,), components = msgspec.json.schema_components(
            [shape], ref_template=_REFERENCE, schema_hook=_choices
        )
        for name, component in components.items():
            self._register(name, component)
        return schema

    def _register(self, name: str, schema: dict[str, Any]) -> None:
        kind = ResolvedComponent.SCHEMA
        component = ResolvedComponent(name, kind, schema, name)  # type: ignore[no-untyped-call]
        self.registry.register_on_missing(component)


def _choices(kind: Any) -> dict[str, Any]:
    """Django's TextChoices, which msgspec reads but does not describe."""
    return {"type": "string", "enum": [member.value for member in kind]}


def serve(request: HttpRequest) -> HttpResponse:
    """GET /v1/openapi.json."""
    return HttpResponse(_serialised(), content_type="application/vnd.oai.openapi+json")


def document() -> dict[str, Any]:
    """The OpenAPI document as plain values."""
    parsed: dict[str, Any] = orjson.loads(_serialised())
    return parsed


@cache
def _serialised() -> bytes:
    made = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    made["components"]["securitySchemes"] = {
        _SECURITY: {"type": "http", "scheme": "bearer", "description": "slw_… or slp_…"}
    }
    return orjson.dumps(made, option=orjson.OPT_NON_STR_KEYS)

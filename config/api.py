"""Lean DRF: what stock DRF does for every request and this API does not need is left out.

Stock parsers, negotiation and serializers cost more than the work of a hot request (a third of the
throughput, measured). Bodies are msgspec Structs, which the OpenAPI schema is made from too.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar, get_args, get_origin

import msgspec
import orjson
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from config import limits, lists, problems
from config.moments import flaw as moment_flaw
from config.problems import FieldError, escape

BODY_LIMIT = 64 * 1024  # Bytes.
DEPTH_LIMIT = 32  # Nested arrays and objects.

S = TypeVar("S", bound=msgspec.Struct)

# The cheap look at a body that may hold a control character (as an escape, or as itself) or a
# number of more than 64 bits.
_ODD_CHARACTER = re.compile(
    rb"\\u00[01][0-9a-fA-F]|\\u007[fF]|\\u00[89][0-9a-fA-F]|\\[bfnrt]|\x7f|\xc2[\x80-\x9f]"
)
# What numbers are made of, and blanks for all else: a search for these few is quicker than any
# expression, which would stop at each digit.
_NUMERALS = bytes(
    {"+": 43, "e": 101, "E": 101}.get(chr(n), 48 if 48 <= n <= 57 else 32) for n in range(256)
)
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f]")
_LARGEST_NUMBER = 2**63  # Beyond it JSON's readers and writers disagree, ours among them.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class JSONRenderer(BaseRenderer):
    """orjson in the place of the standard library's json."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else orjson.dumps(data, default=str)


class JSONParser(BaseParser):
    """Fills `request.data` for views that use serializers; the same limits as `decode`."""

    media_type = "application/json"

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        request = (parser_context or {})["request"]
        body = read_body(request)
        value = _loads(body)
        errors = list(_odd_errors(value, "")) if _may_be_odd(body) else []
        if errors:
            raise problems.InvalidRequest(errors=errors)
        return value


class NoNegotiation(BaseContentNegotiation):
    """There is one parser and one renderer."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


_RENDERER = JSONRenderer()


class LeanAPIView(APIView):
    """An API view that costs little. It has no authentication unless a subclass names one.

    Whoever calls without a key is counted by address, before anything else is done for them.
    """

    renderer_classes = (JSONRenderer,)
    parser_classes = (JSONParser,)
    content_negotiation_class = NoNegotiation
    # What decode() reads, what is answered, and what may be sent beside: see config.openapi.
    bodies: ClassVar[Mapping[str, type[msgspec.Struct]]] = {}
    answers: ClassVar[Mapping[str, Any]] = {}
    parameters: ClassVar[Mapping[str, Mapping[str, str]]] = {}
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    # The limit of strangers, by name. None where the view counts them itself, in limits that only
    # the body tells; whoever does not come so far is counted by config.limits.LimitMiddleware.
    strangers_limit: ClassVar[str | None] = limits.ANONYMOUS

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """DRF's, without the versions, permissions and throttles that no view of ours has."""
        self.format_kwarg = None
        request.accepted_renderer = _RENDERER
        request.accepted_media_type = _RENDERER.media_type
        self.perform_authentication(request)
        self.count(request)
        lists.refuse_control_characters(request)

    def count(self, request: Request) -> None:
        """Count the caller. Raises RateLimited."""
        if self.strangers_limit is not None:
            limits.take_for_address(request, self.strangers_limit)

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Answers hold what one caller may see: no cache keeps them."""
        return {"Allow": ", ".join(self.allowed_methods), "Cache-Control": "no-store"}


def answer(
    data: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """JSON without DRF's Response, for hot paths: it need not be rendered a second time."""
    return HttpResponse(
        orjson.dumps(data, default=str),
        status=status,
        content_type="application/json",
        headers=dict(headers or {}),
    )


def matches(if_none_match: str, etag: str) -> bool:
    """If-None-Match (RFC 9110, 13.1.2): a list of tags, weak ones too, or `*`."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def decode(
    request: Request | HttpRequest, shape: type[S], *, limit: int = BODY_LIMIT, lines: bool = False
) -> S:
    """The request's body as a Struct.

    A Struct may have a method `flaws()` that yields FieldErrors for what its types cannot say. It
    is also asked when some fields could not be read, and finds msgspec.UNSET in their place.
    `lines` allows line breaks and tabs in strings. No other control character ever passes, no
    number of more than 64 bits, and no time that cannot be stored.

    Raises BodyTooLarge, UnsupportedMediaType, BadRequest; InvalidRequest with every field's error.
    """
    return decode_json(read_body(request, limit=limit), shape, lines=lines)


def decode_if_any(request: Request, shape: type[S]) -> S:
    """As `decode`; where no body was sent, what the fields are by default."""
    if request.META.get("CONTENT_LENGTH") in {None, "", "0"}:
        return shape()
    return decode(request, shape)


def decode_json(body: bytes, shape: type[S], *, lines: bool = False) -> S:
    """As `decode`, of JSON that did not come as a request's body.

    Raises BadRequest; InvalidRequest with every field's error.
    """
    _check_depth(body)
    try:
        decoded: S = _decoder(shape).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):  # ValidationError is a DecodeError.
        raise problems.InvalidRequest(errors=_every_error(body, shape, lines=lines)) from None
    errors = list(_odd_errors(_loads(body), "", lines)) if _may_be_odd(body) else []
    errors += _flaws(shape, decoded)
    if errors:
        raise problems.InvalidRequest(errors=_one_each(errors))
    return decoded


def read_body(request: Request | HttpRequest, *, limit: int = BODY_LIMIT) -> bytes:
    """The raw body of a JSON request.

    Raises BodyTooLarge (before it reads, where the length is declared) and UnsupportedMediaType.
    """
    meta = request.META
    if meta.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() != "application/json":
        raise problems.UnsupportedMediaType("Send Content-Type: application/json.")
    if meta.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        # A few compressed kilobytes can be gigabytes.
        raise problems.UnsupportedMediaType("Send the body without Content-Encoding.")
    declared = meta.get("CONTENT_LENGTH") or "0"
    if not (declared.isascii() and declared.isdigit()):
        raise problems.BadRequest("Content-Length is not a number.")
    if len(declared) > 18 or int(declared) > limit:
        raise problems.BodyTooLarge(f"Send at most {limit} bytes.")
    try:
        body = request.body
    except RequestDataTooBig:
        body = None
    if body is None or len(body) > limit:
        raise problems.BodyTooLarge(f"Send at most {limit} bytes.")
    return bytes(body)


@cache
def _decoder(shape: type[S]) -> msgspec.json.Decoder[S]:
    return msgspec.json.Decoder(shape)


def _may_be_odd(body: bytes) -> bool:
    """Whether `_odd_errors` must look. Looking for single bytes first is a third of the search."""
    if (b"\\" in body or b"\x7f" in body or b"\xc2" in body) and _ODD_CHARACTER.search(body):
        return True
    numerals = body.translate(_NUMERALS)
    return b"0e0" in numerals or b"0e+0" in numerals or b"0" * 19 in numerals


def _check_depth(body: bytes) -> None:
    """Raises BadRequest for a body that nests too deep; few brackets cannot."""
    if body.count(b"{") + body.count(b"[") <= DEPTH_LIMIT:
        return
    depth = 0
    for byte in _STRING.sub(b"", body):
        depth += (byte in b"{[") - (byte in b"}]")
        if depth > DEPTH_LIMIT:
            raise problems.BadRequest(f"The body nests deeper than {DEPTH_LIMIT} levels.")


def _loads(body: bytes) -> Any:
    """The body as plain values. Raises BadRequest."""
    _check_depth(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise problems.BadRequest(f"The body is not JSON: {error}.") from None


# ---- The slow path: what exactly is wrong, in every field ----


def _every_error(body: bytes, shape: type[msgspec.Struct], *, lines: bool) -> list[FieldError]:
    value = _loads(body)
    if not isinstance(value, dict):
        raise problems.BadRequest("The body is not a JSON object.")
    read, errors = _convert(value, shape)
    errors += _odd_errors(value, "", lines)
    errors += _flaws(shape, read)
    return _one_each(errors)


def _convert(
    value: dict[str, Any], shape: type[msgspec.Struct]
) -> tuple[SimpleNamespace, list[FieldError]]:
    """Each field on its own: those that could be read, and the errors of those that could not."""
    read, errors = SimpleNamespace(), []
    fields = msgspec.structs.fields(shape)
    for field in fields:
        setattr(read, field.name, msgspec.UNSET)
        if field.encode_name in value:
            try:
                setattr(read, field.name, msgspec.convert(value[field.encode_name], field.type))
            except msgspec.ValidationError as error:
                errors += _item_errors(field, value[field.encode_name]) or [
                    _field_error(field.encode_name, str(error))
                ]
        elif field.required:
            errors.append(FieldError(f"/{escape(field.encode_name)}", "required", "Required."))
    if shape.__struct_config__.forbid_unknown_fields:
        unknown = value.keys() - {field.encode_name for field in fields}
        errors += [
            FieldError(f"/{escape(name)}", "unknown_field", "There is no such field.")
            for name in sorted(unknown)
        ]
    return read, errors


def _item_errors(field: Any, value: Any) -> list[FieldError]:
    """The errors of each item, where the field is a list of Structs; else none."""
    kind = get_args(field.type)[0] if hasattr(field.type, "__metadata__") else field.type
    (shape, *_) = get_args(kind) or (None,)
    is_list = get_origin(kind) is list and isinstance(value, list)
    if not is_list or not (isinstance(shape, type) and issubclass(shape, msgspec.Struct)):
        return []
    errors: list[FieldError] = []
    for index, item in enumerate(value):
        found = [FieldError("", "wrong_type", "Expected object.")]
        if isinstance(item, dict):
            read, found = _convert(item, shape)
            found += _flaws(shape, read)
        place = f"/{escape(field.encode_name)}/{index}"
        errors += [error._replace(pointer=f"{place}{error.pointer}") for error in found]
    return errors


def _field_error(name: str, message: str) -> FieldError:
    """msgspec's sentence ("Expected `str`, got `int` - at `$.a[0]`") as an error with a pointer."""
    what, _, path = message.partition(" - at ")
    parts = re.findall(r"\.([^.\[\]`]+)|\[(\d+)\]", path)
    pointer = "".join(f"/{escape(member or index)}" for member, index in parts)
    return FieldError(f"/{escape(name)}{pointer}", _code_of(what), f"{what.replace('`', '')}.")


_CODES = {
    "of length <=": "too_long",
    "of length >=": "too_short",
    "matching regex": "invalid_format",
    "missing required field": "required",
    "unknown field": "unknown_field",
    "Invalid enum value": "unknown_value",
    "Invalid": "invalid_format",
    "out of range": "out_of_range",
    "<=": "out_of_range",
    ">=": "out_of_range",
    ", got ": "wrong_type",
}


def _code_of(message: str) -> str:
    return next((code for part, code in _CODES.items() if part in message), "invalid")


def _flaws(shape: type[msgspec.Struct], read: Any) -> list[FieldError]:
    """Times that cannot be stored, and what the Struct itself says about its fields."""
    moments = [(name, getattr(read, attribute)) for attribute, name in _times(shape)]
    errors = [
        FieldError(f"/{escape(name)}", *flaw)
        for name, moment in moments
        if isinstance(moment, datetime) and (flaw := moment_flaw(moment))
    ]
    flaws = getattr(shape, "flaws", None)
    return errors + (list(flaws(read)) if flaws is not None else [])


@cache
def _times(shape: type[msgspec.Struct]) -> list[tuple[str, str]]:
    """The fields that may hold a time: (attribute, name in JSON)."""
    return [
        (field.name, field.encode_name)
        for field in msgspec.structs.fields(shape)
        if field.type is datetime or datetime in get_args(field.type)
    ]


def _odd_errors(value: Any, pointer: str, lines: bool = False) -> Iterator[FieldError]:
    """Every string (and member name) that holds a control character, every number too large."""
    if isinstance(value, str):
        text = value.translate({9: None, 10: None, 13: None}) if lines else value
        if _CONTROL_CHARACTER.search(text):
            yield FieldError(pointer, "control_character", "It has control characters in it.")
    elif isinstance(value, (int, float)):
        if abs(value) >= _LARGEST_NUMBER:
            yield FieldError(pointer, "out_of_range", "Numbers have at most 64 bits.")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _odd_errors(item, f"{pointer}/{index}", lines)
    elif isinstance(value, dict):
        for name, item in value.items():
            inner = f"{pointer}/{escape(_CONTROL_CHARACTER.sub('?', name))}"
            yield from _odd_errors(name, inner)
            yield from _odd_errors(item, inner, lines)


def _one_each(errors: list[FieldError]) -> list[FieldError]:
    """The first error of each field, in the order found: the second often follows from it."""
    first: dict[str, FieldError] = {}
    for error in errors:
        first.setdefault(error.pointer, error)
    return list(first.values())

"""Bodies: read as Structs, bounded, and refused with every field's error."""

import json
from typing import Annotated, Any

import msgspec
import pytest
from django.test import RequestFactory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.response import Response

from config import api
from config.problems import FieldError


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    count: int


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=2, max_length=5)]
    color: Annotated[str, msgspec.Meta(pattern="^[a-z]+$")] = "red"
    inner: list[Inner] = []
    extra: dict[str, Any] = {}

    def flaws(self):
        if self.color is not msgspec.UNSET and self.color == "puce":
            yield FieldError("/color", "ugly", "Not puce.")


class View(api.LeanAPIView):
    def post(self, request):
        shape = api.decode(request, Shape)
        return api.answer({"name": shape.name}, status=201)

    def put(self, request):
        return Response({"got": request.data})


def send(body: bytes, *, method: str = "post", content_type="application/json", **headers):
    request = getattr(RequestFactory(), method)(
        "/v1/x", body, content_type=content_type, headers=headers
    )
    response = View.as_view()(request)
    if hasattr(response, "render"):
        response.render()
    return response


def errors(response) -> list[tuple[str, str]]:
    body = json.loads(response.content)
    assert body["code"] == "invalid_request", body
    return [(error["pointer"], error["code"]) for error in body["errors"]]


def code(response) -> str:
    return json.loads(response.content)["code"]


def test_a_good_body_is_read():
    response = send(b'{"name": "abc"}')
    assert (response.status_code, response.content) == (201, b'{"name":"abc"}')
    assert response["Cache-Control"] == "no-store"


def test_every_fault_is_told_at_once_with_its_pointer():
    body = b'{"name": "a", "color": "puce", "inner": [{"count": 1}, {"count": "x"}], "new/~": 1}'
    response = send(body)
    assert response.status_code == 400
    assert errors(response) == [
        ("/name", "too_short"),
        ("/inner/1/count", "wrong_type"),
        ("/new~1~0", "unknown_field"),
        ("/color", "ugly"),
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", [("/name", "required")]),
        (b'{"name": 1}', [("/name", "wrong_type")]),
        (b'{"name": "abcdef"}', [("/name", "too_long")]),
        (b'{"name": "abc", "color": "X1"}', [("/color", "invalid_format")]),
        (b'{"name": "abc", "color": "puce"}', [("/color", "ugly")]),
        (b'{"name": "a\\u0000c"}', [("/name", "control_character")]),
        (b'{"name": "a\\u0085c"}', [("/name", "control_character")]),
        ('{"name": "a\u0085c"}'.encode(), [("/name", "control_character")]),
        (b'{"name": "a\x7fc"}', [("/name", "control_character")]),
        (b'{"name": "a\\nc"}', [("/name", "control_character")]),
        (
            b'{"name": "abc", "extra": {"k": ["ok", "\\u0007"]}}',
            [("/extra/k/1", "control_character")],
        ),
    ],
)
def test_a_faulty_field_is_named(body, expected):
    assert errors(send(body)) == expected


def test_an_escaped_backslash_is_no_control_character():
    assert send(b'{"name": "a\\\\n"}').status_code == 201


def test_line_breaks_pass_where_they_are_wanted_and_nul_never():
    def decode(text: str) -> Shape:
        body = json.dumps({"name": "abc", "extra": {"text": text}})
        request = RequestFactory().post("/v1/x", body, content_type="application/json")
        return api.decode(request, Shape, lines=True)

    assert decode("a\n\tb").extra == {"text": "a\n\tb"}
    with pytest.raises(api.problems.InvalidRequest):
        decode("a\0b")


@pytest.mark.parametrize(
    "body",
    [b" ", b"nope", b"[]", b"1", b'{"name": "abc"} x', b'{"name": "\xff"}', b'{"name": "\\ud800"}'],
)
def test_what_is_no_json_object_is_a_bad_request(body):
    request = RequestFactory().generic("POST", "/v1/x", body, content_type="application/json")
    response = View.as_view()(request)
    assert (response.status_code, code(response)) == (400, "bad_request")


def test_a_body_over_the_limit_is_refused():
    assert code(send(b'{"name": "' + b"x" * api.BODY_LIMIT + b'"}')) == "body_too_large"
    assert send(b"x" * 10_000_000).status_code == 413


def test_a_declared_length_over_the_limit_is_refused_unread():
    request = RequestFactory().post("/v1/x", b"{}", content_type="application/json")
    request.META["CONTENT_LENGTH"] = str(api.BODY_LIMIT + 1)
    request._stream = None  # Reading it would fail.
    assert View.as_view()(request).status_code == 413


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "json"])
def test_another_content_type_is_refused(kind):
    assert code(send(b'{"name": "abc"}', content_type=kind)) == "unsupported_media_type"


def test_a_compressed_body_is_refused():
    response = send(b'{"name": "abc"}', **{"Content-Encoding": "gzip"})
    assert response.status_code == 415


def test_nesting_is_bounded_and_brackets_in_strings_are_no_nesting():
    def nested(depth: int) -> bytes:
        return b'{"name": "abc", "extra": {"x": ' + b"[" * depth + b"]" * depth + b"}}"

    assert send(nested(api.DEPTH_LIMIT - 2)).status_code == 201
    assert send(nested(api.DEPTH_LIMIT - 1)).status_code == 400
    assert send(b"[" * 30_000).status_code == 400
    assert send(b'{"name": "abc", "extra": {"x": "' + b"[{" * 500 + b'"}}').status_code == 201


def test_the_same_limits_hold_for_views_with_serializers():
    assert json.loads(send(b'{"a": [1]}', method="put").content) == {"got": {"a": [1]}}
    assert errors(send(b'{"a": "\\u0000"}', method="put")) == [("/a", "control_character")]
    assert send(b"x" * 100_000, method="put").status_code == 413
    assert send(b"{}", method="put", content_type="text/plain").status_code == 415


def test_a_method_that_is_not_taken_is_a_problem_too():
    response = View.as_view()(RequestFactory().patch("/v1/x"))
    assert (response.status_code, code(response)) == (405, "method_not_allowed")
    assert response["Allow"] == "POST, PUT, OPTIONS"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(body):
    request = RequestFactory().generic("POST", "/v1/x", body, content_type="application/json")
    assert View.as_view()(request).status_code in (201, 400, 415)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@pytest.mark.thorough
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(["name", "color", "inner", "extra", "x"]), json_values))
def test_no_json_makes_it_fail_and_control_characters_never_pass(value):
    response = send(json.dumps(value).encode())
    assert response.status_code in (201, 400)
    if response.status_code == 201:
        name = json.loads(response.content)["name"]
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name)

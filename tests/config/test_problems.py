"""Errors are RFC 9457 problems for programs and pages for people."""

import json

import pytest
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404
from django.test import RequestFactory
from rest_framework import serializers
from rest_framework.views import APIView

from config import problems
from config.problems import FieldError, Problem


class TooTall(Problem):
    """This is too tall.

    Only the first line is a title.
    """

    status = 422
    code = "too_tall"


def respond(exception: Exception, **headers: str):
    view = type("View", (APIView,), {"authentication_classes": [], "permission_classes": []})
    view.get = lambda self, request: (_ for _ in ()).throw(exception)
    view.get_exception_handler = lambda self: problems.exception_handler
    request = RequestFactory().get(headers.pop("path", "/v1/thing"), headers=headers)
    request.request_id = "abc-1"
    return view.as_view()(request)


def test_a_problem_says_what_where_and_in_which_request():
    raised = TooTall(
        "Two metres at most.",
        errors=[FieldError("/height", "too_tall", "Too tall.")],
        headers={"Retry-After": "3"},
        limit=200,
    )
    response = respond(raised)
    assert response.status_code == 422
    assert response["Content-Type"] == "application/problem+json"
    assert response["Retry-After"] == "3"
    assert response["Cache-Control"] == "no-store"
    assert json.loads(response.content) == {
        "type": "urn:slipway:problem:too_tall",
        "title": "This is too tall.",
        "status": 422,
        "code": "too_tall",
        "trace_id": "abc-1",
        "limit": 200,
        "detail": "Two metres at most.",
        "errors": [{"pointer": "/height", "code": "too_tall", "message": "Too tall."}],
    }


@pytest.mark.parametrize(
    ("exception", "status", "code"),
    [
        (Http404(), 404, "not_found"),
        (PermissionDenied(), 403, "forbidden"),
        (OperationalError("the password is hunter2"), 503, "unavailable"),
    ],
)
def test_what_django_raises_becomes_a_problem_without_its_innards(exception, status, code):
    response = respond(exception)
    assert response.status_code == status
    assert json.loads(response.content)["code"] == code
    assert b"hunter2" not in response.content


def test_a_bug_is_not_dressed_up_as_a_problem():
    with pytest.raises(ZeroDivisionError):
        respond(ZeroDivisionError())


def test_each_field_of_a_serializer_gets_its_pointer():
    class Item(serializers.Serializer):
        size = serializers.IntegerField()

    class Order(serializers.Serializer):
        items = Item(many=True)
        note = serializers.CharField(max_length=3)

    order = Order(data={"items": [{"size": 1}, {"size": "x"}], "note": "long"})
    assert not order.is_valid()
    response = respond(serializers.ValidationError(order.errors))
    errors = json.loads(response.content)["errors"]
    assert [(e["pointer"], e["code"]) for e in errors] == [
        ("/items/1/size", "invalid"),
        ("/note", "max_length"),
    ]


def test_pointers_escape_what_json_pointers_must():
    assert problems.escape("a/b~c") == "a~1b~0c"


def test_a_person_gets_a_page_and_the_api_never_does():
    page = respond(TooTall("<b>"), path="/thing", accept="text/html")
    assert page["Content-Type"].startswith("text/html")
    assert b"This is too tall." in page.content
    assert b"<b>" not in page.content
    api = respond(TooTall(), accept="text/html")
    assert api["Content-Type"] == "application/problem+json"

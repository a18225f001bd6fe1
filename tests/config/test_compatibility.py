"""Nothing that callers rely on goes away unnoticed."""

import copy
from collections.abc import Callable

import orjson
import pytest

from config.compatibility import breaks
from config.management.commands.openapi import PROMISED
from config.openapi import document

DOCUMENT = document()


def changed(change: Callable[[dict], object]) -> dict:
    after = copy.deepcopy(DOCUMENT)
    change(after)
    return after


def schema(after: dict, name: str) -> dict:
    return after["components"]["schemas"][name]


def test_callers_are_still_served_as_they_were_promised():
    assert breaks(orjson.loads(PROMISED.read_bytes()), DOCUMENT) == []


def test_what_is_promised_is_written_down():
    assert orjson.loads(PROMISED.read_bytes()) == DOCUMENT, "Run: make openapi"


BREAKING = {
    "DELETE /v1/keys/{key_id} is gone.": lambda after: after["paths"].pop("/v1/keys/{key_id}"),
    "PATCH /v1/customers/{customer_id} is gone.": lambda after: after["paths"][
        "/v1/customers/{customer_id}"
    ].pop("patch"),
    "POST /v1/onboard answers no 202.": lambda after: after["paths"]["/v1/onboard"]["post"][
        "responses"
    ].pop("202"),
    "GET /v1/customers: the parameter email is gone.": lambda after: after["paths"][
        "/v1/customers"
    ]["get"].update(parameters=[]),
    "POST /v1/onboard: the parameter Idempotency-Key is required.": lambda after: after["paths"][
        "/v1/onboard"
    ]["post"]["parameters"][0].update(required=True),
    "POST /v1/onboard asks for a key.": lambda after: after["paths"]["/v1/onboard"]["post"].update(
        security=[{"key": []}]
    ),
    "POST /v1/onboard, the body.slug is gone.": lambda after: schema(after, "SignUp")[
        "properties"
    ].pop("slug"),
    "POST /v1/onboard, the body.locale is required.": lambda after: schema(after, "SignUp")[
        "required"
    ].append("locale"),
    "POST /v1/onboard, the body.tenant_name has maxLength 10.": lambda after: schema(
        after, "SignUp"
    )["properties"]["tenant_name"].update(maxLength=10),
    "POST /v1/keys, the body.name is integer, not string.": lambda after: schema(after, "KeyWish")[
        "properties"
    ]["name"].update(type="integer"),
    "POST /v1/customers, the body.consent takes no unknown, withdrawn.": lambda after: schema(
        after, "CustomerChange"
    )["properties"]["consent"].update(enum=["given"]),
    "GET /v1/customers, the answer 200.data[].phone is gone.": lambda after: schema(
        after, "CustomerAnswer"
    )["properties"].pop("phone"),
    "GET /v1/customers, the answer 200.data[].phone may be missing.": lambda after: schema(
        after, "CustomerAnswer"
    )["required"].remove("phone"),
    "GET /v1/onboard/{request_id}, the answer 200.status may be lost.": lambda after: schema(
        after, "StatusAnswer"
    )["properties"]["status"].update(
        enum=["pending", "provisioning", "ready", "cancelled", "lost"]
    ),
    "GET /v1/tenants, the answer 200.data[].url is null or string, not string.": lambda after: (
        schema(after, "TenantAnswer")["properties"].update(
            url={"anyOf": [{"type": "string"}, {"type": "null"}]}
        )
    ),
}


@pytest.mark.parametrize("sentence", BREAKING)
def test_it_names_what_would_break_callers(sentence):
    assert sentence in breaks(DOCUMENT, changed(BREAKING[sentence]))


ADDING = {
    "a path": lambda after: after["paths"].update({"/v1/new": {"get": {"responses": {}}}}),
    "an optional field": lambda after: schema(after, "SignUp")["properties"].update(
        colour={"type": "string"}
    ),
    "a member of the answer": lambda after: schema(after, "CustomerAnswer")["properties"].update(
        colour={"type": "string"}
    ),
    "a longer name": lambda after: schema(after, "SignUp")["properties"]["tenant_name"].update(
        maxLength=90
    ),
    "a parameter": lambda after: after["paths"]["/v1/customers"]["get"]["parameters"].append(
        {"in": "query", "name": "colour", "schema": {"type": "string"}}
    ),
    "a promise kept more often": lambda after: schema(after, "StatusAnswer")["required"].append(
        "plan"
    ),
}


@pytest.mark.parametrize("what", ADDING)
def test_it_lets_the_api_grow(what):
    assert breaks(DOCUMENT, changed(ADDING[what])) == []


def test_it_ends_where_a_schema_holds_itself():
    def nest(after: dict) -> None:
        schema(after, "SignUp")["properties"]["inner"] = {"$ref": "#/components/schemas/SignUp"}

    before = changed(nest)
    after = copy.deepcopy(before)
    schema(after, "SignUp")["properties"]["plan"]["maxLength"] = 1
    assert "POST /v1/onboard, the body.plan has maxLength 1." in breaks(before, after)

"""The OpenAPI document says what the API takes."""

import pytest
from openapi_spec_validator import validate

from tests.people import APEX


@pytest.fixture
def document(client):
    answer = client.get("/v1/openapi.json", headers={"Host": APEX})
    assert answer.status_code == 200
    return answer.json()


def test_it_is_a_valid_document(document):
    validate(document)


def test_it_describes_every_route_of_the_api(document):
    from django.urls import get_resolver

    routes = {
        f"/{pattern.pattern}{inner.pattern}".replace("<str:", "{").replace(">", "}")
        for pattern in get_resolver().url_patterns
        if hasattr(pattern, "url_patterns")
        for inner in pattern.url_patterns
        if str(inner.pattern).startswith("v1/")
    }
    assert routes
    assert routes <= set(document["paths"])


def test_it_describes_bodies_scopes_and_problems(document):
    add = document["paths"]["/v1/customers"]["post"]
    assert add["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/CustomerChange"
    }
    assert "customers:write" in add["description"]
    assert add["security"] == [{"key": []}]
    assert "application/problem+json" in add["responses"]["4XX"]["content"]
    body = document["components"]["schemas"]["CustomerChange"]
    assert body["additionalProperties"] is False
    assert body["properties"]["name"] == {"type": "string", "maxLength": 200}
    parameters = document["paths"]["/v1/customers"]["get"]["parameters"]
    assert {"limit", "cursor", "email"} <= {parameter["name"] for parameter in parameters}


def test_it_describes_every_answer(document):
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            done = {code: said for code, said in operation["responses"].items() if code[0] == "2"}
            assert done, (method, path)
            for code, said in done.items():
                assert ("content" in said) == (code != "204"), (method, path, code)


def test_it_describes_what_is_sent_beside_bodies(document):
    def sent(path: str, method: str) -> set[tuple[str, str]]:
        parameters = document["paths"][path][method]["parameters"]
        return {(parameter["name"], parameter["in"]) for parameter in parameters}

    assert ("reason", "query") in sent("/v1/keys/{key_id}", "delete")
    assert ("Idempotency-Key", "header") in sent("/v1/onboard", "post")
    assert ("Slipway-Tenant", "header") in sent("/v1/customers", "get")

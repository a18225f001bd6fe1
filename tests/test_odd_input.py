"""Whatever is sent to a route of the API is answered: the fault is never ours.

One pass makes requests from the OpenAPI document, valid and invalid ones (Schemathesis, the same
each time). The other puts odd values known to have broken somebody's service into every documented
parameter and field: some into each, all of them with SLIPWAY_CHAOS=long.
"""

import base64
import json
import os
import uuid
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from urllib.parse import quote, urlencode
from zlib import crc32

import pytest
import schemathesis
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    response_schema_conformance,
    status_code_conformance,
)

from config.limits import Limit
from config.openapi import document
from config.wsgi import application
from tests.campaigns.brought import campaign as running_campaign
from tests.onboarding.world import fresh_address
from tests.people import APEX, bearer, platform_key, tenant_key

LONG = os.environ.get("SLIPWAY_CHAOS") == "long"
# For each operation, and each of its two kinds: valid and invalid.
EXAMPLES = 40 if LONG else 4
PORTION = 1 if LONG else 6  # Of the odd values, each place gets every sixth: others elsewhere.
DOCUMENT = document()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = [
    (method, path)
    for path, methods in DOCUMENT["paths"].items()
    for method in methods
    if method in {"get", "post", "patch", "put", "delete"}
]


def cursor(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


ODD_TEXTS = [
    "", " ", "\0", "a\0b", "\x85", "\x7f", "\n", "\u202e", "\u200b", "\ufeff", "\U000e0041",
    "\uffff", "é" * 30, "a" * 5000, "²", "٣", "1_0", "-5", "0", "NaN", "-Infinity", "1e-99999",
    "1e999999", "0E+99999", "0E-99999", str(2**63), str(2**64), "9" * 130,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", "2024-01-01T00:00:00", "0000-00-00",
    "2024-W01-1", "00000000-0000-0000-0000-000000000000", "{" + "0" * 32 + "}",
    "' or 1=1 --", "%", "\\", "../..",
    cursor("9" * 30), cursor("-5"), cursor("1_0"), cursor(str(2**63)), cursor("\0"), cursor("²"),
    cursor("0001-01-01"), cursor("2024-W01-1"), cursor("urn:uuid:" + str(uuid.UUID(int=7))),
    "v1", "v1,", "v1,a,b", "=",
]  # fmt: skip
# As JSON: some of these no writer of JSON would write.
ODD_VALUES = [
    *(json.dumps(text) for text in ODD_TEXTS),
    "null", "true", "[]", "{}", "0", "-0.0", "1e400", "1e308", "1e20", "-1e19", "5e-324",
    str(2**63 - 1), str(2**63), str(2**64), str(-(2**63)), "9" * 400, "9" * 5000,
    r'"\ud800"', r'"\udfff\ud800"', "NaN", "[" * 40 + "]" * 40, "[" * 12 + "]" * 12,
    '{"":1}', '{"a":1e308}', f'{{"a":{2**64}}}',
    f'{{"a":{-(2**64)}}}', r'{"a\u0000":1}', r'{"a":"\ud800"}', '{"a":1,"a":2}',
    '{"a":[{"b":1e300}]}', '["customers:read","customers:read"]', r'["\u0000"]',
]  # fmt: skip
ENDPOINT = b'{"url":"https://example.com/"}'
SEGMENT = b'{"name":"Odd","filter":{"field":"attributes.a","op":">","value":0}}'
TEMPLATE = b'{"name":"Odd","text":"{{ a }}"}'
SOURCE = b'{"name":"Odd","url":"https://example.com/customers"}'
BRIEF = {"template": {"text": "{{ a }}", "external_name": "", "language": "en"}}
PHONE = "+4930123456"
SUPPRESSIONS = json.dumps({"phones": [PHONE]}).encode()
BECAUSE = b'{"reason":"Odd."}'
ODD_BODIES = [b"", b"{", b"null", b"[]", b'"a"', b"\xff\xfe", b'{"email":"\xff"}', b"{}" * 2, b"\0"]


def some(values: list[str], place: str) -> list[str]:
    """Of these, those whose turn it is in this place: another place has others."""
    return values[crc32(place.encode()) % PORTION :: PORTION]


@pytest.fixture
def world(request, make_tenant, monkeypatch, settings):
    """Limits that a machine does not meet, and a step that somebody may call back."""
    from onboarding import steps

    monkeypatch.setattr("tenants.throttling.TENANT_KEY", Limit("tenant-key", 10**9, 60))
    secret = "whsec_" + base64.b64encode(b"x" * 24).decode()
    step = {"name": "billing", "url": "http://127.0.0.1:1/", "secret": secret}
    settings.SLIPWAY = settings.SLIPWAY | {
        "LIMITS": dict.fromkeys(settings.SLIPWAY["LIMITS"], (10**9, 60)),
        "TENANT_LIMITS": {"endpoints": 10**6, "accounts": 10**6, "events": (10**9, 60)},
        "PROVISIONING_STEPS": [step],
    }
    steps.all_steps.cache_clear()
    shared = not LONG and not acts(**getattr(request.node, "callspec", NO_PARAMETERS).params)
    yield shared_world(make_tenant) if shared else World(make_tenant())
    steps.all_steps.cache_clear()


NO_PARAMETERS = SimpleNamespace(params={})


def acts(*, method: str = "get", path: str = "", **others: str) -> bool:
    """Whether a route does something to one thing, which may be gone then, or stopped."""
    return "{" in path and method in {"post", "delete"}


@cache
def shared_world(make_tenant: Callable[[], object]) -> "World":
    """For all others one, since it is dear."""
    return World(make_tenant())


class World:
    """A tenant with something of everything, and how the API is called about it."""

    def __init__(self, tenant) -> None:
        self.client = Client(raise_request_exception=False, REMOTE_ADDR=fresh_address())
        self.tenant = tenant
        self.keys = {"tenant": tenant_key(tenant), "platform": platform_key()}
        made = self.call("post", "/v1/customers", b'{"attributes":{"a":1}}', caller="tenant")
        wish = b'{"scopes":["customers:read"]}'
        signed_up = self.call("post", "/v1/onboard", self.sign_up(), caller="platform")
        endpoint = self.call("post", "/v1/endpoints", ENDPOINT, caller="tenant").json()["id"]
        event = self.call("post", "/v1/events", b'{"type":"a","data":{}}', caller="tenant").json()
        told = self.call("get", f"/v1/events/{event['id']}", caller="tenant").json()
        replay = self.call("post", "/v1/replays", b'{"reason":"Odd."}', caller="tenant")
        brought = self.send_file("/v1/customers/imports", b"external_id\nodd\n")
        segment = self.call("post", "/v1/segments", SEGMENT, caller="tenant").json()
        template = self.call("post", "/v1/templates", TEMPLATE, caller="tenant").json()
        campaign = running_campaign(tenant, content=None, brief=BRIEF)
        source = self.call("post", "/v1/customers/sources", SOURCE, caller="tenant").json()["id"]
        synced = self.call("post", f"/v1/customers/sources/{source}/sync", b"{}", caller="tenant")
        gone = self.call("post", "/v1/customers", b"{}", caller="tenant").json()["id"]
        erased = self.call("post", f"/v1/customers/{gone}/erase", BECAUSE, caller="tenant")
        self.call("post", "/v1/customers/suppressions", SUPPRESSIONS, caller="tenant")
        self.known = {
            "source_id": source,
            "sync_id": synced.json()["id"],
            "erasure_id": erased.json()["id"],
            "phone": PHONE,
            "account_id": f"acc_{campaign.account_id}",
            "campaign_id": f"cmp_{campaign.pk}",
            "segment_id": segment["id"],
            "template_id": template["id"],
            "customer_id": made.json()["id"],
            "key_id": self.call("post", "/v1/keys", wish, caller="tenant").json()["id"],
            "reference": tenant.slug,
            "request_id": signed_up.json()["request_id"],
            "name": "billing",
            "endpoint_id": endpoint,
            "event_id": event["id"],
            "delivery_id": told["deliveries"][0]["id"],
            "replay_id": replay.json()["id"],
            "import_id": brought.json()["id"],
            "export_id": self.call("post", "/v1/customers/exports", b"{}", caller="tenant").json()[
                "id"
            ],
        }

    def sign_up(self) -> bytes:
        email = f"{uuid.uuid4().hex[:12]}@b.example"
        return json.dumps({"email": email, "tenant_name": "Acme", "plan": "free"}).encode()

    def call(self, method: str, path: str, body: bytes = b"", *, caller: str, **headers: str):
        return self.client.generic(
            method.upper(), path, body, content_type="application/json",
            headers=self.headers(caller, **headers),
        )  # fmt: skip

    def send_file(self, path: str, body: bytes):
        return self.client.post(path, body, content_type="text/csv", headers=self.headers("tenant"))

    def headers(self, caller: str, **headers: str) -> dict[str, str]:
        if caller == "stranger":
            return {"Host": APEX, **headers}
        named = {"Slipway-Tenant": self.tenant.slug} if caller == "platform" else {}
        return bearer(self.keys[caller], **named, **headers)

    def path(self, template: str) -> str:
        return template.format(**self.known)

    def check_that_all_can_be_read(self, path: str) -> None:
        """What was taken in can be given out: all of it, or what is of the same sort."""
        sort = "" if LONG else "/".join(path.split("/")[:3])
        readable = [template for method, template in OPERATIONS if method == "get"]
        for template in (one for one in readable if one.startswith(sort)):
            answer = self.call("get", self.path(template), caller=caller_of(template))
            assert fine(answer), template


def caller_of(path: str) -> str:
    """Who has most to say there."""
    part = path.split("/")[2]
    platforms = {"onboard", "tenants", "audit", "customers", "event-types", "platform"}
    return "platform" if part in platforms else "tenant"


def fine(answer) -> bool:
    """Nobody is told that it was our fault, everybody where they stand."""
    return answer.status_code < 500 and "RateLimit" in answer.headers


@pytest.mark.thorough
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_it_answers_what_the_document_allows_and_what_it_does_not(world, method, path):
    operation = SCHEMA[path][method.upper()]
    cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))
    callers = st.sampled_from([caller_of(path), "stranger"])

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases, caller=callers, known=st.booleans())
    def send(case, caller, known):
        if known:
            case.path_parameters = {**(case.path_parameters or {}), **world.known}
        case.headers = {**(case.headers or {}), **world.headers(caller)}
        answer = case.call(app=application, base_url="http://localhost")
        assert answer.status_code < 500, (caller, answer.content)
        case.validate_response(
            answer, checks=[status_code_conformance, response_schema_conformance]
        )

    send()
    if LONG and method != "get":
        world.check_that_all_can_be_read(path)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("method", "path"), [operation for operation in OPERATIONS if "{" in operation[1]]
)
def test_no_odd_id_is_a_fault_of_ours(world, method, path):
    names = [name for name in world.known if f"{{{name}}}" in path]
    for name in names:
        for text in some(ODD_TEXTS[1:], method + path + name):
            odd = path.format(**world.known | {name: quote(text, safe="")})
            assert fine(world.call(method, odd, b"{}", caller=caller_of(path))), odd


@pytest.mark.thorough
@pytest.mark.parametrize(("method", "path"), [one for one in OPERATIONS if one[0] == "get"])
def test_no_odd_parameter_is_a_fault_of_ours(world, method, path):
    described = DOCUMENT["paths"][path][method].get("parameters", [])
    names = [parameter["name"] for parameter in described if parameter["in"] == "query"]
    for name in [*names, "reason", "\0"]:
        for text in some(ODD_TEXTS, path + name):
            query = urlencode({name: text})
            answer = world.call(method, f"{world.path(path)}?{query}", caller=caller_of(path))
            assert fine(answer), query


def test_no_odd_reason_is_a_fault_of_ours(world):
    for text in ODD_TEXTS:
        query = urlencode({"reason": text})
        answer = world.call("delete", f"{world.path('/v1/keys/{key_id}')}?{query}", caller="tenant")
        assert fine(answer), query


WHOLE = {
    "reason": "Odd.", "scopes": ["customers:read"], "limits": {}, "name": "odd.type",
    "type": "odd.type", "data": {}, "events": [{"type": "odd.type", "data": {}}],
    "url": "https://example.com/",
}  # fmt: skip
BODIES = [
    (
        method,
        path,
        DOCUMENT["paths"][path][method]["requestBody"]["content"]["application/json"]["schema"][
            "$ref"
        ],
    )
    for method, path in OPERATIONS
    if "application/json"
    in DOCUMENT["paths"][path][method].get("requestBody", {}).get("content", {})
]


@pytest.mark.thorough
@pytest.mark.parametrize(("method", "path", "shape"), BODIES)
def test_no_odd_field_is_a_fault_of_ours(world, method, path, shape):
    fields = DOCUMENT["components"]["schemas"][shape.rpartition("/")[2]]["properties"]
    whole = WHOLE | json.loads(world.sign_up())
    for name in fields:
        for value in some(ODD_VALUES, method + path + name):
            body = {known: value for known, value in whole.items() if known in fields}
            text = json.dumps(body | {name: "ODD"}).replace('"ODD"', value)
            answer = world.call(method, world.path(path), text.encode(), caller=caller_of(path))
            assert fine(answer), text[:300]
    world.check_that_all_can_be_read(path)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_odd_body_is_a_fault_of_ours(world, method, path):
    for body in ODD_BODIES:
        for caller in (caller_of(path), "stranger"):
            assert fine(world.call(method, world.path(path), body, caller=caller)), body


@pytest.mark.parametrize("length", ["²", "-1", "9" * 5000, "1_0", "a"])
def test_it_refuses_a_length_that_is_none(world, length):
    refused = world.client.post(
        "/v1/onboard", b"{}", content_type="application/json", headers={"Host": APEX},
        CONTENT_LENGTH=length,
    )  # fmt: skip
    assert refused.status_code in {400, 413}


LISTS = [
    path
    for method, path in OPERATIONS
    if "cursor" in {each["name"] for each in DOCUMENT["paths"][path][method].get("parameters", [])}
]


@pytest.mark.parametrize("path", LISTS)
def test_every_list_refuses_a_parameter_that_it_does_not_know(world, path):
    assert len(LISTS) >= 5
    whole = world.path(path)
    refused = world.call("get", f"{whole}?limt=3", caller=caller_of(path))
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_parameter")
    listed = world.call("get", f"{whole}?limit=3", caller=caller_of(path))
    # What hangs on one thing of the tenant's is not there for the platform's own.
    there = 404 if "{" in path and path.startswith("/v1/platform/") else 200
    assert listed.status_code == there

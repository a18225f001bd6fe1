"""What every route of the API does, whatever is asked of it and by whom."""

import re

import pytest
from django.test import Client
from django.urls import URLPattern, get_resolver

from config.limits import Limit
from tests.onboarding.world import fresh_address
from tests.people import APEX, bearer, host_of, platform_key, tenant_key

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"]


def routes(urlconf: str) -> list[str]:
    """Every address under /v1 of one host, with its parameters filled in."""
    found = [*patterns(get_resolver(urlconf).url_patterns, "/")]
    assert len(found) > 3
    return [*found, "/v1/", "/v1/nothing", "/v1/tenants/", "/v1/onboard/x/events"]


def patterns(entries, prefix: str):
    for entry in entries:
        path = prefix + re.sub(r"<[^>]+>", "x", str(entry.pattern))
        if not isinstance(entry, URLPattern):
            yield from patterns(entry.url_patterns, path)
        elif path.startswith("/v1/"):
            yield path


@pytest.fixture
def call(settings):
    """Answers as a client from one address gets them."""
    client = Client(raise_request_exception=False, REMOTE_ADDR=fresh_address())

    def send(method: str, path: str, headers: dict[str, str]):
        return client.generic(method, path, b"{}", "application/json", headers=headers)

    return send


def callers(tenant, host: str) -> dict[str, dict[str, str]]:
    return {
        "stranger": {"Host": host},
        "guesser": bearer("slw_aaaaaaaaaaaa_" + "a" * 32) | {"Host": host},
        "other scheme": {"Host": host, "Authorization": "Basic eDp4"},
        "tenant": bearer(tenant_key(tenant)) | {"Host": host},
        "platform": bearer(platform_key(), **{"Slipway-Tenant": tenant.slug}) | {"Host": host},
        "lost platform": bearer(platform_key(), **{"Slipway-Tenant": "no-such"}) | {"Host": host},
    }


@pytest.mark.parametrize("urlconf", ["config.urls", "tenants.host_urls"])
def test_it_tells_every_caller_where_it_stands_on_every_route(urlconf, call, tenant, monkeypatch):
    monkeypatch.setattr("tenants.throttling.INVALID_KEY", Limit("invalid-key", 10**6, 60))
    host = APEX if urlconf == "config.urls" else host_of(tenant)
    seen = set()
    for name, headers in callers(tenant, host).items():
        for path in routes(urlconf):
            for method in METHODS:
                answer = call(method, path, headers)
                seen.add(answer.status_code)
                asked = (name, method, path, answer.status_code)
                assert answer.status_code < 500, asked
                assert re.fullmatch(r'"[\w-]+";q=\d+;w=\d+', answer["RateLimit-Policy"]), asked
                assert re.fullmatch(r'"[\w-]+";r=\d+;t=\d+', answer["RateLimit"]), asked
    assert {200, 400, 401, 404, 405} <= seen


def test_hosts_that_serve_nobody_are_counted_too(call, make_tenant):
    hosts = [host_of(make_tenant(status=s)) for s in ("suspended", "closed", "provisioning")]
    for host in [*hosts, "nobody.slipway.localhost", "example.org"]:
        answer = call("GET", "/v1/customers", {"Host": host})
        assert answer.status_code >= 400
        assert answer["RateLimit"].startswith('"anonymous";')


def test_who_asks_too_often_is_refused_on_every_route_alike(call, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "LIMITS": settings.SLIPWAY["LIMITS"] | {"anonymous": (2, 60)}
    }
    codes = [
        call("GET", path, {"Host": APEX}).status_code
        for path in ("/v1/openapi.json", "/v1/nothing", "/v1/customers", "/v1/openapi.json")
    ]
    assert codes == [200, 404, 429, 429]
    refused = call("GET", "/v1/nothing", {"Host": APEX})
    assert refused.json()["code"] == "rate_limited"
    assert 0 < int(refused["Retry-After"]) <= 61


def test_a_key_is_counted_once_a_call_and_not_by_address(call, tenant):
    headers = bearer(tenant_key(tenant))
    left = [
        int(re.search(r"r=(\d+)", call("GET", path, headers)["RateLimit"])[1])
        for path in ("/v1/customers", "/v1/keys", "/v1/tenants", "/v1/customers?limit=x")
    ]
    assert left == list(range(left[0], left[0] - 4, -1))

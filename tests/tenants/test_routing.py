"""From the host to the tenant: who is known, who is not, and who only pretends."""

import asyncio
import threading

import pytest
import redis
from asgiref.testing import ApplicationCommunicator
from django.conf import settings as django_settings
from django.core import signing
from django.core.handlers.asgi import ASGIHandler
from django.db import connections
from django.test import Client

from tenants import hosts
from tenants.context import current_tenant
from tenants.hosts import normalise
from tests.people import Browser, host_of, make_user


@pytest.fixture
def patient(monkeypatch):
    """A busy machine must not look like a Redis that is away."""
    monkeypatch.setattr(hosts, "_REDIS_TIMEOUT", 5.0)
    monkeypatch.setattr(hosts, "_redis_again_at", 0.0)


def visit(client, host, *, accept="text/html", path="/", **headers):
    return client.get(path, headers={"Host": host, "Accept": accept, **headers})


def shows(response, tenant):
    return response.status_code == 200 and tenant.name in response.content.decode()


def test_a_known_host_shows_its_tenants_page(client, tenant, other_tenant):
    assert shows(visit(client, host_of(tenant)), tenant)
    assert shows(visit(client, host_of(other_tenant)), other_tenant)
    assert other_tenant.name not in visit(client, host_of(tenant)).content.decode()


@pytest.mark.parametrize(
    "spell",
    [
        "{}",
        "{}:8000",
        "{}.",
        "{}.:8000",
        "www.{}",
        "WWW.{}",
    ],
)
def test_it_knows_a_host_however_it_is_spelt(client, tenant, spell):
    assert shows(visit(client, spell.format(host_of(tenant))), tenant)
    assert shows(visit(client, spell.format(host_of(tenant)).upper()), tenant)


def test_it_knows_a_domain_beyond_ascii_in_both_spellings(client, tenant, operator):
    ascii_name = f"b{tenant.pk}ücher.example".encode("idna").decode()
    operator.execute(
        "insert into tenants_domain (domain, is_primary, tenant_id) values (%s, false, %s)",
        [ascii_name, tenant.pk],
    )
    assert shows(visit(client, ascii_name), tenant)
    assert normalise(f"B{tenant.pk}Ücher.example") == ascii_name


@pytest.mark.parametrize(
    "header",
    [
        "X-Forwarded-Host",
        "X-Host",
        "Forwarded",
        "X-Original-Host",
        "X-Forwarded-Server",
    ],
)
def test_no_other_header_names_the_host(client, tenant, other_tenant, header):
    value = f"host={host_of(other_tenant)}" if header == "Forwarded" else host_of(other_tenant)
    assert shows(visit(client, host_of(tenant), **{header: value}), tenant)


@pytest.mark.parametrize(
    "host",
    [
        "nobody-here.slipway.localhost",
        "unknown.example",
        "a.b.slipway.localhost",
        "slipway.localhost.evil.example",
        "evil.example:8000@slipway.localhost",
        "..",
        "",
        "a" * 300,
        "-",
        "'; drop table tenants_tenant; --",
        "[::1",
        "192.0.2.77",
        "acme_slipway.localhost/..",
    ],
)
def test_an_unknown_host_gets_404(client, host):
    for accept in ("text/html", "application/json"):
        response = visit(client, host, accept=accept)
        assert response.status_code == 404
        assert response.headers["Cache-Control"] == "no-store"
    assert response.json()["code"] == "unknown_host"


def test_a_slug_inside_another_host_is_not_that_tenant(client, tenant):
    for host in (
        f"x.{host_of(tenant)}",
        f"{host_of(tenant)}.evil.example",
        f"x{host_of(tenant)}",
        tenant.slug,
    ):
        assert visit(client, host).status_code == 404


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        ("suspended", 403, "tenant_suspended"),
        ("closing", 410, "tenant_closed"),
        ("closed", 410, "tenant_closed"),
    ],
)
def test_a_tenant_that_is_not_in_use_says_so(client, make_tenant, status, answer, code):
    tenant = make_tenant(status=status)
    page = visit(client, host_of(tenant))
    assert page.status_code == answer
    assert page.headers["Content-Type"].startswith("text/html")
    assert tenant.name not in page.content.decode()
    api = visit(client, host_of(tenant), accept="*/*")
    assert (api.status_code, api.json()["code"]) == (answer, code)
    for path in ("/login", "/v1/customers", "/v1/keys"):
        assert visit(client, host_of(tenant), path=path).status_code == answer


def test_probes_answer_on_any_host(client):
    assert client.get("/healthz", headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_the_platform_has_no_tenant_however_its_host_is_spelt(client, settings):
    settings.APEX_HOSTS = ["www.launch.example", "slipway.localhost", "127.0.0.1"]
    for host in (
        "www.launch.example",
        "launch.example:8000",
        "SLIPWAY.localhost.",
        "www.slipway.localhost",
        "127.0.0.1:8000",
    ):
        assert "Slipway launches tenants" in visit(client, host).content.decode(), host
    assert visit(client, "launch.example.evil.example").status_code == 404


def test_the_platforms_api_is_not_on_tenants_hosts(client, tenant):
    for path in ("/v1/tenants", "/v1/audit", "/v1/onboard", "/console/", "/activate/x"):
        assert visit(client, host_of(tenant), path=path).status_code == 404


def test_a_host_is_asked_for_once_in_a_while(client, tenant, django_assert_num_queries):
    hosts.find(host_of(tenant))
    with django_assert_num_queries(0):
        hosts.find(host_of(tenant))


def test_an_unknown_host_is_remembered_shortly_and_can_be_forgotten(client, make_tenant):
    host = f"soon-{make_tenant().pk}.slipway.localhost"
    assert hosts.find(host) is None
    tenant = make_tenant(slug=host.split(".")[0])
    assert hosts.find(host) is None  # Two seconds.
    assert hosts.UNKNOWN_SECONDS <= 2
    hosts.forget([host])
    assert hosts.find(host).ref == tenant.ref


def test_onboarding_warms_a_host_for_every_process(patient, tenant, django_assert_num_queries):
    hosts.warm([host_of(tenant)])
    hosts.forget_all_here()  # As another process, which knows nothing.
    with django_assert_num_queries(0):
        assert hosts.find(host_of(tenant)).ref == tenant.ref


def test_who_writes_to_redis_moves_no_host(patient, tenant, other_tenant):
    """An entry that we did not sign, or signed for another host, is not believed."""
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    entry = [
        host_of(tenant),
        *other_tenant.ref,
        str(other_tenant.uuid),
        other_tenant.slug,
        "active",
    ]
    forged = signing.Signer(key="x" * 50, salt="tenants.hosts").sign_object(entry)
    hosts.warm([host_of(other_tenant)])
    true_elsewhere = client.get(f"slipway:host:{host_of(other_tenant)}")
    for value in (forged, b"nonsense", b"", true_elsewhere):
        client.set(f"slipway:host:{host_of(tenant)}", value)
        hosts.forget_all_here()
        assert hosts.find(host_of(tenant)).ref == tenant.ref


def test_it_finds_hosts_while_redis_is_away(client, make_tenant, valkey, monkeypatch):
    monkeypatch.setattr(hosts, "_redis_again_at", 0.0)
    tenant = make_tenant()
    valkey.stop()
    assert shows(visit(client, host_of(tenant)), tenant)
    assert hosts._redis_again_at > 0  # And leaves it alone for a while.


def test_links_begin_with_the_public_url_and_not_with_the_request(client, tenant, settings):
    settings.PUBLIC_URL = "https://launch.example:4443"
    assert hosts.tenant_url("acme") == "https://acme.slipway.localhost:4443/"
    browser = Browser(host_of(tenant) + ":666")
    browser.login(make_user(tenant))
    page = browser.get("/", **{"X-Forwarded-Host": "evil.example"}).content.decode()
    assert "evil.example" not in page
    assert ":666" not in page


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        ("Acme.Slipway.Localhost:8000", "acme.slipway.localhost"),
        ("acme.slipway.localhost.", "acme.slipway.localhost"),
        ("www.acme.slipway.localhost", "acme.slipway.localhost"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("[::1]:8000", "::1"),
        ("127.0.0.1:8000", "127.0.0.1"),
        ("a b", ""),
        ("a/b", ""),
        ("a\x00b", ""),
        ("user@host", ""),
        ("a..b", ""),
        ("x" * 64 + ".example", ""),
    ],
)
def test_it_normalises_hosts(raw, plain):
    assert normalise(raw) == plain


def test_requests_of_many_tenants_at_once_never_mix_in_threads(make_tenant):
    tenants = [make_tenant() for _ in range(4)]
    wrong: list[str] = []

    def visit_often(number):
        try:
            for turn in range(15):
                tenant = tenants[(number + turn) % len(tenants)]
                page = visit(Client(), host_of(tenant))
                others = [other for other in tenants if other is not tenant]
                if not shows(page, tenant) or any(o.name in page.content.decode() for o in others):
                    wrong.append(f"{tenant.slug}: {page.status_code}")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=visit_often, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_requests_of_many_tenants_at_once_never_mix_in_async(make_tenant):
    tenants = [make_tenant() for _ in range(4)]

    async def visit_all():
        server = ASGIHandler()

        async def one(number):
            tenant = tenants[number % len(tenants)]
            return tenant, await ask(server, host_of(tenant))

        return await asyncio.gather(*(one(number) for number in range(40)))

    for tenant, (status, page) in asyncio.run(visit_all()):
        assert status == 200
        assert tenant.name in page
        for other in tenants:
            assert other is tenant or other.name not in page
    assert current_tenant() is None


def test_two_host_headers_name_nobody(tenant):
    status, page = asyncio.run(ask(ASGIHandler(), "slipway.localhost", host_of(tenant)))
    assert status == 404
    assert tenant.name not in page


async def ask(server, *asked: str) -> tuple[int, str]:
    """A GET for / over ASGI, with these Host headers."""
    headers = [(b"host", host.encode()) for host in asked] + [(b"accept", b"text/html")]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "query_string": b"",
        "headers": headers,
        "client": ("127.0.0.1", 5),
    }
    line = ApplicationCommunicator(server, scope)
    await line.send_input({"type": "http.request", "body": b""})
    start = await line.receive_output(30)
    body = await line.receive_output(30)
    await line.wait(30)
    return start["status"], body["body"].decode()

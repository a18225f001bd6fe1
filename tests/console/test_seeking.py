"""The search of the console's lists: what a text means, and that it finds the old ones too."""

import re
from urllib.parse import quote

import pytest
from django.apps import apps
from django.contrib import admin

from jobs.models import Lane
from jobs.states import State
from tenants import audit
from tenants.models import ApiKey
from tenants.routers import as_operator
from tests.conftest import create_tenant
from tests.console.operators import attempt, job, letter, made, shown, sign_up, signed_in
from tests.console.test_paging import ids
from tests.people import prefix_of, tenant_key
from tests.webhooks.ears import listen, publish_in
from webhooks.models import Delivery


@pytest.fixture(scope="module")
def console(django_db_blocker):
    return signed_in()


@pytest.fixture(scope="module")
def rows(django_db_blocker):
    """Two tenants with the same things; what is sought is the first one's."""
    tenant, other = create_tenant(), create_tenant()
    found = {}
    for name, of in (("mine", tenant), ("other", other)):
        endpoint = listen(of.ref)
        event = publish_in(of)
        delivery = Delivery.objects.using("operator").get(event_id=event.pk)
        Delivery.objects.using("operator").filter(pk=delivery.pk).update(
            last_error=f"connect_timeout: {of.slug} is <slow>", host=endpoint.host
        )
        found[name] = {
            "tenant": of, "endpoint": endpoint, "event": event, "delivery": delivery,
            "attempt": attempt(delivery, "deliveries", error=f"{of.slug} broke"),
            "letter": letter(delivery, "deliveries", error=f"{of.slug} is dead"),
            "job": job(of), "sign_up": sign_up(of, state=State.FAILED),
            "lane": made(Lane, tenant_id=of.pk, key=endpoint.lane),
            "hostname": endpoint.host.partition(":")[0],
            "key": ApiKey.objects.using("operator").get(prefix=prefix_of(tenant_key(of))),
            "entry": entry(of, f"ep_{endpoint.pk}"),
            "replayed": entry(of, f"deliveries:{delivery.pk}"),
        }  # fmt: skip
    return found["mine"]


def entry(tenant, target: str):
    with as_operator():
        return audit.record(actor="system:test", action="a", tenant_id=tenant.pk, target=target)


def admin_of(page: str):
    return admin.site._registry[apps.get_model(page.replace("/", "."))]


def finds(console, page: str, text: str) -> list[str]:
    return ids(shown(console, f"{page}/?q={quote(text)}"), page)


DELIVERY, ATTEMPT = "webhooks/delivery", "jobs/attempt"
ENDPOINT, LETTER = "webhooks/endpoint", "jobs/deadletter"
SOUGHT = [
    (DELIVERY, "dlv_{delivery.pk}", "delivery"),
    (DELIVERY, "{delivery.pk}", "delivery"),
    (DELIVERY, "evt_{event.pk}", "delivery"),
    (DELIVERY, "{event.pk}", "delivery"),
    (DELIVERY, "ep_{endpoint.pk}", "delivery"),
    (DELIVERY, "{tenant.slug}", "delivery"),
    (DELIVERY, "tnt_{tenant.uuid}", "delivery"),
    (DELIVERY, "tenant:{tenant.slug}", "delivery"),
    (DELIVERY, "{endpoint.host}", "delivery"),
    (DELIVERY, "host:{endpoint.host}", "delivery"),
    (DELIVERY, "error:{tenant.slug} is <slow>", "delivery"),
    (DELIVERY, "{tenant.slug} IS <slow>", "delivery"),
    (ENDPOINT, "ep_{endpoint.pk}", "endpoint"),
    (ENDPOINT, "{endpoint.host}", "endpoint"),
    (ATTEMPT, "{delivery.pk}", "attempt"),
    (ATTEMPT, "dlv_{delivery.pk}", "attempt"),
    (ATTEMPT, "{tenant.slug} broke", "attempt"),
    (LETTER, "{delivery.pk}", "letter"),
    (LETTER, "{tenant.slug}", "letter"),
    (LETTER, "{endpoint.host}", "letter"),
    (LETTER, "host:{hostname}", "letter"),
    (ATTEMPT, "{endpoint.host}", "attempt"),
    (ATTEMPT, "host:{hostname}", "attempt"),
    ("tenants/apikey", "{tenant.slug}", "key"),
    ("tenants/apikey", "{key.prefix}", "key"),
    ("tenants/apikey", "prefix:{key.prefix}", "key"),
    ("tenants/auditentry", "ep_{endpoint.pk}", "entry"),
    ("tenants/auditentry", "{endpoint.pk}", "entry"),
    ("tenants/auditentry", "dlv_{delivery.pk}", "replayed"),
    ("tenants/auditentry", "deliveries:{delivery.pk}", "replayed"),
    ("tenants/auditentry", "aud_{entry.pk}", "entry"),
    ("jobs/job", "{job.pk}", "job"),
    ("webhooks/event", "evt_{event.pk}", "event"),
    ("onboarding/pendingonboarding", "req_{sign_up.pk}", "sign_up"),
    ("onboarding/pendingonboarding", "{tenant.slug}", "sign_up"),
]


@pytest.mark.parametrize(("page", "text", "name"), SOUGHT)
def test_it_finds_what_is_meant_and_nothing_else(console, rows, page, text, name):
    assert finds(console, page, text.format(**rows)) == [str(rows[name].pk)]


def test_the_box_says_what_it_finds_and_how_to_say_which(console, rows):
    for page, said in {
        LETTER: "Finds an id, a tenant&#x27;s slug or tnt_ id, a host, words of an error."
        " tenant:…, host:…, error:… say which.",
        "tenants/apikey": "Finds an id, a tenant&#x27;s slug or tnt_ id, its prefix."
        " tenant:…, prefix:… say which.",
        "webhooks/eventtype": "Finds its name.",
    }.items():
        assert said in shown(console, f"{page}/"), page


def test_a_host_is_found_without_its_port(console, rows):
    host = rows["endpoint"].host.partition(":")[0]
    assert finds(console, ENDPOINT, host) == [str(rows["endpoint"].pk)]


def test_a_lane_is_found_by_what_it_leads_to(console, rows):
    html = shown(console, f"jobs/lane/?q=ep_{rows['endpoint'].pk}")
    assert f"/console/jobs/lane/{rows['lane'].pk}/change/" in html
    assert html.count(">endpoint:") == 1


@pytest.mark.parametrize("page", ["jobs/lane", "tenants/domain"])
def test_a_tenants_slug_finds_its_own_also_where_another_text_is_sought(console, rows, page):
    html = shown(console, f"{page}/?q={rows['tenant'].slug}")
    found = set(re.findall(rf"/console/{page}/(\d+)/change/", html))
    model = admin_of(page).model
    mine = model.objects.using("operator").filter(tenant_id=rows["tenant"].pk)
    assert found == {str(row.pk) for row in mine} != set()


@pytest.mark.parametrize("text", ["ep_{endpoint.pk}", "{lane.key}", "jobs:{tenant.pk}"])
def test_a_lane_is_reached_by_its_tenant_and_key(console, rows, text):
    """The unique index has both: nothing is looked through."""
    made_one = Lane.objects.using("operator").get_or_create(
        tenant_id=rows["tenant"].pk, key=f"jobs:{rows['tenant'].pk}"
    )[0]
    html = shown(console, f"jobs/lane/?q={text.format(**rows)}")
    wanted = made_one if text.startswith("jobs") else rows["lane"]
    assert set(re.findall(r"/console/jobs/lane/(\d+)/change/", html)) == {str(wanted.pk)}
    assert "looked at" not in html


def test_a_tenant_is_found_by_slug_and_by_either_id(console, rows):
    tenant = rows["tenant"]
    for text in (tenant.slug, f"tnt_{tenant.uuid}", str(tenant.uuid), str(tenant.pk)):
        html = shown(console, f"tenants/tenant/?q={text}")
        assert html.count(f"/console/tenants/tenant/{tenant.pk}/change/") == 1
        assert html.count("/change/") == 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text", ["%00", "%27%20or%201=1--", "evt_", "%F0%9F%92%A9", "%25", "9" * 30, "a" * 300, "tnt_x"]
)
def test_what_nothing_is_called_finds_nothing_and_breaks_nothing(console, rows, text):
    for page in (DELIVERY, ATTEMPT, LETTER, ENDPOINT, "tenants/tenant", "jobs/lane"):
        answer = console.get(f"/console/{page}/?q={text}")
        assert answer.status_code in {200, 302, 400}, (page, text)


def test_filters_and_a_search_are_both_wanted(console, rows):
    text = f"{DELIVERY}/?q={rows['tenant'].slug}&state="
    assert ids(shown(console, text + "pending"), DELIVERY) == [str(rows["delivery"].pk)]
    assert ids(shown(console, text + "succeeded"), DELIVERY) == []


def test_another_tenants_filter_beside_the_search_finds_nothing(console, rows):
    other = create_tenant()
    assert ids(shown(console, f"{DELIVERY}/?q={rows['tenant'].slug}&tenant={other.slug}")) == []

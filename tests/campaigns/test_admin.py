"""Campaigns in the console: shown without credentials, and without counting it all."""

import re
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import Attempt
from jobs.states import State
from tests.campaigns import brought
from tests.webhooks.test_console import console, page

__all__ = ["console"]  # A fixture.

LISTS = ("provideraccount", "segment", "template", "campaign", "message")


@pytest.fixture
def one(tenant):
    """A campaign with a message that failed twice, and one who got none."""
    one = brought.campaign(tenant, account=brought.account(tenant), total=4, sent=1, skipped=1)
    brought.skip(one, "missing_variable", customer_id=uuid4(), detail="<b>city</b>")
    brought.segment(tenant)
    brought.template(tenant)
    return one


@pytest.mark.parametrize("name", LISTS)
def test_no_list_counts_or_searches_a_whole_table(console, one, name):
    brought.message(one, 1)
    with CaptureQueriesContext(connections["operator"]) as captured:
        page(console, f"campaigns/{name}")
    asked = [query["sql"] for query in captured if f'FROM "campaigns_{name}"' in query["sql"]]
    assert asked
    assert not any("COUNT(" in sql for sql in asked)
    assert all("LIMIT" in sql for sql in asked)
    assert not any("DISTINCT" in sql for sql in asked)


def test_an_account_is_shown_and_none_of_its_credentials(console, one, tenant, operator):
    operator.execute(
        "insert into jobs_lane (tenant_id, key, learnt_rate) values (%s, %s, 12)",
        [tenant.pk, f"account:{one.account_id}"],
    )
    for path in ("", f"/{one.account_id}/change"):
        shown = page(console, f"campaigns/provideraccount{path}")
        assert "Sandbox" in shown
        assert "kept-encrypted-and-not-shown" not in shown
    assert re.search(r'/jobs/lane/\d+/change/">account:', shown)


def test_a_campaign_shows_its_counters_and_some_of_its_skips(console, one):
    shown = page(console, f"campaigns/campaign/{one.pk}/change")
    assert ">running</span>" in shown
    assert "missing_variable &lt;b&gt;city&lt;/b&gt;" in shown
    assert 'class="field-done">25%' in page(console, "campaigns/campaign")


def test_a_message_shows_each_try_and_not_what_it_says(console, one, tenant):
    message = brought.message(one, 1, state=State.DEAD_LETTER, params={"name": "Ada-Ada"})
    for number, error in ((1, "HTTP 503"), (2, "no <such> number")):
        Attempt(
            tenant_id=tenant.pk, queue="messages", work_id=message.pk, number=number,
            started_at=timezone.now() + timedelta(seconds=number), duration_ms=12,
            outcome="failed", error=error, drainer=1,
        ).save(using="operator", force_insert=True)  # fmt: skip
    shown = page(console, f"campaigns/message/{message.pk}/change")
    assert re.findall(r">#(\d)</a>", shown) == ["1", "2"]
    assert re.findall(r'class="quiet">(\d+ ms)<', shown) == ["12 ms", "12 ms"]
    said = re.findall(r'class="try-said">(.*?)</p>', shown)
    assert said == ["HTTP 503", "no &lt;such&gt; number"]
    assert "Ada-Ada" not in shown


@pytest.mark.parametrize("name", ["campaign", "message"])
def test_it_is_found_by_its_id_as_the_api_spells_it(console, one, tenant, name):
    other = brought.campaign(tenant)
    sought = one if name == "campaign" else brought.message(one, 1)
    brought.message(other, 2)
    prefix = {"campaign": "cmp", "message": "msg"}[name]
    shown = console.get(f"/console/campaigns/{name}/?q={prefix}_{sought.pk}").content.decode()
    found = re.findall(rf"/campaigns/{name}/([0-9a-f-]{{36}})/change", shown)
    assert set(found) == {str(sought.pk)}


@pytest.mark.parametrize("name", LISTS)
def test_nothing_is_changed_or_deleted_here(console, one, name):
    brought.message(one, 1)
    shown = page(console, f"campaigns/{name}")
    id = re.search(rf"/campaigns/{name}/([0-9a-f-]{{36}})/change", shown)[1]
    assert 'name="_save"' not in page(console, f"campaigns/{name}/{id}/change")
    assert console.get(f"/console/campaigns/{name}/{id}/delete/").status_code == 403
    assert console.get(f"/console/campaigns/{name}/add/").status_code == 403

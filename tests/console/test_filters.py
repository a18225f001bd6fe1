"""The filters of the console's lists: each shows just what it says, and leaves the others be."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import parse_qs, quote

import pytest

from config.admin.filters import first_id
from jobs.models import Lane
from tests.conftest import create_tenant
from tests.console.operators import job, letter, made, shown, signed_in
from tests.console.test_paging import ids
from tests.webhooks.ears import listen
from webhooks.models import Endpoint

HOUR = timedelta(hours=1)
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def console(django_db_blocker):
    return signed_in()


@pytest.fixture(scope="module")
def whose(django_db_blocker):
    return create_tenant()


def lists(console, page: str, query: str) -> list[str]:
    return ids(shown(console, f"{page}/?{query}"), page)


@pytest.fixture(scope="module")
def lanes(whose):
    now = datetime.now(UTC)
    for key, columns in {
        "paused": {"paused_until": now + HOUR},
        "operators": {"operator_paused_until": now + HOUR, "failures": 9, "failing_since": now},
        "over": {"paused_until": now - HOUR, "operator_paused_until": now - HOUR},
        "once": {"failures": 1, "failing_since": now},
        "often": {"failures": 3, "failing_since": now},
    }.items():
        made(Lane, tenant_id=whose.pk, key=key, **columns)


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("paused=yes", {"paused", "operators"}),
        ("paused=no", {"over", "once", "often"}),
        ("failing=yes", {"operators", "once", "often"}),
        ("failing=often", {"operators", "often"}),
        ("failing=no", {"paused", "over"}),
        ("paused=no&failing=often", {"often"}),
        ("paused=perhaps", set()),
    ],
)
def test_lanes_are_told_apart_by_what_holds_them_back(console, whose, lanes, query, keys):
    html = shown(console, f"jobs/lane/?tenant={whose.slug}&{query}")
    assert set(re.findall(r'/console/jobs/lane/\d+/change/[^"]*">(\w+)</a>', html)) == keys


def test_letters_are_told_apart_by_how_their_error_begins_and_who_resolved_them(console, whose):
    page = "jobs/deadletter"
    busy, gone, done = (
        str(letter(job(whose, state="dead_letter"), "jobs", **columns).pk)
        for columns in (
            {"error": "HTTP 503: busy"},
            {"error": "no such host", "reason": "failed"},
            {"error": "HTTP 503: it was", "resolved_at": NOON, "resolution": "discarded"},
        )
    )
    for query, wanted in {
        "error=HTTP+503": {busy, done},
        "error=HTTP+503&resolved=no": {busy},
        "error=503": set(),  # It begins otherwise.
        "error=HTTP_503": set(),  # A text, and no pattern.
        "resolved=yes": {done},
        "resolved=no": {busy, gone},
        "resolution=discarded": {done},
        "reason=failed": {gone},
    }.items():
        assert set(lists(console, page, f"tenant={whose.slug}&{query}")) == wanted, query


def test_endpoints_are_told_apart_by_whether_they_are_there_and_work(console, whose):
    works, off, gone = (listen(whose.ref) for _ in range(3))
    rows = Endpoint.objects.using("operator")
    rows.filter(pk=off.pk).update(disabled_at=NOON, disabled_reason="gone")
    rows.filter(pk=gone.pk).update(disabled_at=NOON, disabled_reason="gone", deleted_at=NOON)
    for query, wanted in {
        "disabled=yes": {off, gone},
        "disabled=no": {works},
        "disabled=yes&deleted=no": {off},
        "deleted=yes": {gone},
        "disabled_reason=gone&deleted=no": {off},
    }.items():
        found = set(lists(console, "webhooks/endpoint", f"tenant={whose.slug}&{query}"))
        assert found == {str(one.pk) for one in wanted}, query


@pytest.mark.parametrize(
    ("name", "column"),
    [("ended", "finished_at"), pytest.param("age", "id", marks=pytest.mark.thorough)],
)
def test_a_span_has_its_first_moment_and_not_its_last(console, name, column):
    """`FROM..TO`, of which either may be left out; what cannot be read finds nothing."""
    tenant = create_tenant()
    at = {hour: NOON + (hour - 12) * HOUR for hour in (11, 12, 13)}
    rows = {
        hour: str(
            job(
                tenant,
                state="succeeded",
                **({column: first_id(one)} if column == "id" else {column: one}),
            ).pk
        )
        for hour, one in at.items()
    }
    noon, one = "2026-03-01T12:00:00Z", "2026-03-01T13:00:00Z"
    for said, hours in {
        f"{noon}..{one}": {12},
        f"{noon}..": {12, 13},
        f"..{noon}": {11},
        "2026-03-01T13:00:00+01:00..2026-03-01T13:00:00": {12},
        "2026-03-01T14:00:00%2B01:00..": {13},
        "noon..one": set(),
        "-century": set(),
        "..": {11, 12, 13},
    }.items():
        text = said if "%" in said or "+" in said else quote(said)
        found = lists(console, "jobs/job", f"tenant={tenant.slug}&{name}={text}")
        assert set(found) == {rows[hour] for hour in hours}, said


def test_a_span_is_a_choice_that_can_be_taken_back(console):
    html = shown(console, "jobs/job/?ended=2026-03-01T12:00:00Z..")
    assert re.search(r'class="selected">\s*<a[^>]*>2026-03-01T12:00:00Z to ', html)


def test_a_filters_link_leaves_the_others_be(console, whose):
    """Also those whose names begin as Django's own parameters do: p, q."""
    asked = f"paused=no&q=crowd:1&tenant={whose.slug}"
    html = shown(console, f"jobs/lane/?{asked}&failing=yes")
    links = [parse_qs(unescape(one)[1:]) for one in re.findall(r'href="(\?[^"]*)"', html)]
    wanted = {"paused": ["no"], "q": ["crowd:1"], "tenant": [whose.slug]}
    assert {**wanted, "failing": ["often"]} in links
    assert wanted in links  # All, of failing.
    assert {"q": ["crowd:1"]} in links  # Clear all filters.
    without_paused = {name: value for name, value in wanted.items() if name != "paused"}
    assert {**without_paused, "failing": ["yes"]} in links
    assert {"paused": ["no"], "tenant": [whose.slug], "failing": ["yes"]} in links  # No search.
    of_plan = shown(console, "onboarding/pendingonboarding/?plan=free&state=failed")
    assert "?plan=free&amp;state=held" in of_plan

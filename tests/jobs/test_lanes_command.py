"""manage.py lanes: the console's services, from a terminal."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command

from jobs.models import Lane
from tenants.models import AuditEntry
from tests.works.models import Telegram

OPERATOR = "operator"


def run(*words: str) -> str:
    out = StringIO()
    call_command("lanes", *words, stdout=out)
    return out.getvalue().strip()


def told(*words: str):
    return json.loads(run(*words, "--json"))


@pytest.fixture
def key():
    return f"endpoint:{uuid4()}"


def lane(key) -> Lane:
    return Lane.objects.using(OPERATOR).get(key=key)


def entries(key):
    rows = AuditEntry.objects.using(OPERATOR).filter(target=f"lane:{key}").order_by("at", "id")
    return list(rows.values_list("action", "reason"))


def test_it_pauses_a_lane_that_had_no_row_and_resumes_it(tenant, key):
    run("pause", key, "--tenant", tenant.slug, "--for", "4", "--reason", "they are down")
    left = lane(key).operator_paused_until - datetime.now(UTC)
    assert timedelta(hours=3, minutes=59) < left < timedelta(hours=4)
    assert lane(key).operator_why == "they are down"
    run("resume", key, "--reason", "they are back")  # Its key says whose it is by now.
    assert lane(key).operator_paused_until is None
    assert entries(key) == [("lane.paused", "they are down"), ("lane.resumed", "they are back")]
    actor = AuditEntry.objects.using(OPERATOR).filter(target=f"lane:{key}")[0].actor
    assert actor.startswith("system:terminal:")


def test_a_pause_without_an_end_lasts_until_it_is_resumed(tenant, key):
    run("pause", key, "--tenant", tenant.slug, "--reason", "for now")
    assert lane(key).operator_paused_until.year == 9999


def test_it_sets_and_lifts_a_window_and_a_rate(tenant, key):
    named = (key, "--tenant", f"tnt_{tenant.uuid}", "--reason", "gently")
    run("window", named[0], "3", *named[1:])
    run("rate", named[0], "0.5", *named[1:])
    assert (lane(key).operator_window, lane(key).operator_rate) == (3, 0.5)
    run("window", named[0], "none", *named[1:])
    run("rate", named[0], "none", *named[1:])
    assert (lane(key).operator_window, lane(key).operator_rate) == (None, None)


def test_a_dry_run_changes_nothing(tenant, key):
    answer = told("pause", key, "--tenant", tenant.slug, "--reason", "x", "--dry-run")
    assert answer == {"act": "pause", "key": key, "tenant": tenant.slug, "changed": False}
    assert not Lane.objects.using(OPERATOR).filter(key=key).exists()
    assert entries(key) == []


@pytest.mark.parametrize(
    ("act", "value"), [("window", "0"), ("rate", "0"), ("rate", "-1"), ("rate", "nan")]
)
def test_a_dry_run_refuses_what_the_act_refuses(tenant, key, act, value):
    said = []
    for more in ([], ["--dry-run"]):
        with pytest.raises(CommandError) as refused:
            run(act, key, "--tenant", tenant.slug, "--reason", "x", *more, "--", value)
        said.append(str(refused.value))
    assert said[0] == said[1]


def test_a_dry_run_needs_a_reason_as_the_act_does(tenant, key):
    for act in ("pause", "resume"):
        with pytest.raises(CommandError, match="Say why"):
            run(act, key, "--tenant", tenant.slug, "--reason", " ", "--dry-run")


def test_it_shows_a_lane_and_what_waits_in_it(tenant, key):
    works = [Telegram(tenant_id=tenant.pk, lane=key, max_attempts=3) for _ in range(3)]
    Telegram.objects.using(OPERATOR).bulk_create(works)
    run("window", key, "2", "--tenant", tenant.slug, "--reason", "gently")
    shown = told("show", key, "--tenant", tenant.slug)
    assert (shown["tenant"], shown["operator_window"]) == (tenant.slug, 2)
    assert shown["works"] == {"telegrams": {"pending": 3, "processing": 0}}
    assert "operator_window: 2" in run("show", key, "--tenant", tenant.slug)
    Telegram.objects.using(OPERATOR).filter(lane=key).update(state="cancelled")


def test_it_lists_those_that_are_held_back(tenant, key):
    run("pause", key, "--tenant", tenant.slug, "--reason", "down\x1b[31m")
    open_one = f"account:{uuid4()}"
    run("window", open_one, "5", "--tenant", tenant.slug, "--reason", "x")
    (paused,) = told("list", "--tenant", tenant.slug, "--paused")
    assert (paused["key"], paused["tenant"]) == (key, tenant.slug)
    assert {one["key"] for one in told("list", "--tenant", tenant.slug)} == {key, open_one}
    text = run("list", "--tenant", tenant.slug, "--paused")
    assert "paused by an operator: down" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    "words",
    [
        ("pause", "endpoint:nowhere", "--reason", "x"),  # Whose?
        ("pause", "endpoint:nowhere", "--tenant", "nobody-here", "--reason", "x"),
        ("window", "endpoint:nowhere", "0", "--tenant", "platform", "--reason", "x"),
        ("rate", "endpoint:nowhere", "-1", "--tenant", "platform", "--reason", "x"),
        ("rate", "endpoint:nowhere", "nan", "--tenant", "platform", "--reason", "x"),
        ("resume", "endpoint:nowhere", "--tenant", "platform", "--reason", " "),
        ("pause", "endpoint:nowhere", "--tenant", "platform"),  # Why?
        ("pause", "endpoint:nowhere", "--tenant", "platform", "--reason", "x", "--for", "-1"),
    ],
)
def test_it_refuses_what_cannot_be_and_changes_nothing(words):
    with pytest.raises(CommandError):
        run(*words)
    assert not Lane.objects.using(OPERATOR).filter(key="endpoint:nowhere").exists()

"""How a provider account fares, as its tenant sees it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from campaigns.providers import sealed
from jobs.models import Lane
from tests.campaigns.desk import Desk


@pytest.fixture
def account(desk: Desk, post):
    return post.account(credentials=sealed({"key": "k"}))


@pytest.fixture
def read(desk, account):
    return lambda: desk.get(f"/accounts/acc_{account.pk}").json()["health"]


def say(account, **columns):
    rows = Lane.objects.using("operator")
    rows.update_or_create(tenant_id=account.tenant_id, key=account.key, defaults=columns)


def test_an_account_of_which_there_is_nothing_to_say_is_active(read):
    told = read()
    assert (told["state"], told["failures"]) == ("active", 0)
    assert {value for name, value in told.items() if name not in {"state", "failures"}} == {None}


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"paused_until": 60}, "asked_to_wait"),
        ({"paused_until": 60, "opened_until": 60}, "breaker"),
        ({"paused_until": 60, "operator_paused_until": 90}, "operator"),
    ],
)
def test_it_is_told_until_when_an_account_is_held_and_by_whom(read, account, columns, why):
    now = timezone.now().replace(microsecond=0)
    said = {name: now + timedelta(seconds=seconds) for name, seconds in columns.items()}
    say(account, **said, operator_why="the operators' own words")
    told = read()
    assert (told["state"], told["held_why"]) == ("held", why)
    assert told["held_until"] == max(said.values()).isoformat()
    assert "own words" not in str(told)


def test_an_account_is_failing_while_its_last_try_failed(read, account):
    say(account, failures=2, failing_since=timezone.now())
    told = read()
    assert (told["state"], told["failures"]) == ("failing", 2)


def test_what_was_learnt_of_an_account_is_told(read, account):
    say(account, learnt_rate=79.5, learnt_window=160, learnt_at=timezone.now())
    told = read()
    assert (told["learnt_rate"], told["learnt_max_in_flight"]) == (79.5, 160)


def test_a_paused_account_waits_for_somebody_and_for_no_time(desk, read, account):
    desk.post(f"/accounts/acc_{account.pk}/pause", {"reason": "For now."})
    told = read()
    assert (told["state"], told["held_until"], told["held_why"]) == ("paused", None, None)

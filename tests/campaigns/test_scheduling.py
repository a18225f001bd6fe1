"""What campaigns do by the clock: begin, end, and be quiet at night."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from campaigns import steps
from campaigns.quiet import next_quiet, quiet_until
from jobs.outcomes import Snooze, Succeeded
from tenants.models import AuditEntry
from tests.campaigns.workshop import OPERATOR

NIGHT = {"from": "21:00", "until": "08:00"}
BERLIN = ZoneInfo("Europe/Berlin")


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(begins, ends, zone="Europe/Berlin"):
    return SimpleNamespace(quiet_hours={"from": begins, "until": ends}, time_zone=zone)


# ---- Beginning ----


def test_a_scheduled_campaign_begins_at_its_time(workshops, clock):
    workshops.add_many(2)
    campaign = workshops.create(scheduled_at=clock() + timedelta(hours=3))
    assert campaign.state == "scheduled"
    assert workshops.work() == []
    clock.pass_(hours=2, minutes=59)
    assert workshops.work() == []
    clock.pass_(minutes=2)
    assert workshops.work() == ["campaigns.start", "campaigns.generate", "campaigns.materialise"]
    assert workshops.fresh(campaign).state == "running"


def test_a_time_that_passed_while_nothing_ran_is_made_good(workshop, clock):
    workshop.add_many(1)
    campaign = workshop.create(scheduled_at=clock() + timedelta(hours=3))
    clock.pass_(days=4)
    workshop.work()
    assert workshop.fresh(campaign).state == "running"


def test_it_does_not_begin_when_it_may_not_send_any_more(workshop, clock):
    campaign = workshop.create(
        scheduled_at=clock() + timedelta(hours=3), send_until=clock() + timedelta(hours=5)
    )
    clock.pass_(days=4)
    workshop.work()
    found = workshop.fresh(campaign)
    assert (found.state, found.reason) == (
        "cancelled", "send_until has passed before it could start",
    )  # fmt: skip


def test_taken_back_and_scheduled_anew_it_begins_at_the_new_time(workshop, clock):
    workshop.add_many(1)
    campaign = workshop.create(scheduled_at=clock() + timedelta(hours=1))
    assert workshop.do("take_back", campaign).state == "draft"
    later = clock() + timedelta(hours=5)
    workshop.do("change", campaign, wish=workshop.wish(scheduled_at=later))
    assert workshop.do("launch", campaign).state == "scheduled"
    clock.pass_(hours=2)
    assert workshop.work() == ["campaigns.start"]
    assert workshop.fresh(campaign).state == "scheduled"
    clock.pass_(hours=4)
    workshop.work()
    assert workshop.fresh(campaign).state == "running"


# ---- Ending ----


def test_at_send_until_what_waits_is_withdrawn_and_the_campaign_is_over(workshops, clock):
    campaign = workshops.running(4, send_until=clock() + timedelta(hours=1))
    workshops.send(Succeeded(), most=1)
    clock.pass_(hours=2)
    assert workshops.work() == ["campaigns.expire", "campaigns.withdraw", "campaigns.finish"]
    found = workshops.fresh(campaign)
    assert (found.state, found.sent, found.cancelled) == ("completed", 1, 3)
    assert set(workshops.messages(campaign, state="cancelled").values_list(
        "last_error", flat=True)) == {"send_until has passed"}  # fmt: skip
    assert workshops.counters(campaign) == workshops.counted(campaign)


def test_a_paused_campaign_is_over_at_send_until_too(workshop, clock):
    campaign = workshop.running(2, send_until=clock() + timedelta(hours=1))
    workshop.do("pause", campaign, reason="hm")
    clock.pass_(hours=2)
    workshop.work()
    found = workshop.fresh(campaign)
    assert (found.state, found.cancelled) == ("completed", 2)


def test_prepared_after_send_until_it_sends_nothing(workshop, clock):
    workshop.add_many(2)
    campaign = workshop.create(send_until=clock() + timedelta(hours=1))
    clock.pass_(hours=2)
    workshop.work()
    found = workshop.fresh(campaign)
    assert (found.state, found.total, found.cancelled) == ("completed", 2, 2)


# ---- Quiet hours ----


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-06-01T18:59:59", None),  # 20:59:59 in Berlin.
        ("2026-06-01T19:00:00", "2026-06-02T06:00:00"),
        ("2026-06-02T05:59:59", "2026-06-02T06:00:00"),
        ("2026-06-02T06:00:00", None),
        ("2026-01-01T19:30:00", None),  # 20:30: it is winter.
        ("2026-01-01T20:30:00", "2026-01-02T07:00:00"),
        # Clocks go forward in the night of March 29, and back in that of October 25.
        ("2026-03-28T21:00:00", "2026-03-29T06:00:00"),
        ("2026-10-24T20:00:00", "2026-10-25T07:00:00"),
    ],
)
def test_they_hold_by_the_clocks_of_the_campaigns_time_zone(now, until):
    found = quiet_until(hours("21:00", "08:00"), utc(now))
    assert found == (utc(until) if until else None)


@pytest.mark.parametrize(
    ("begins", "ends", "now", "until"),
    [
        # 02:30 is twice there on October 25: until the second one.
        ("01:00", "02:30", "2026-10-25T01:00:00", "2026-10-25T01:30:00"),
        # From the first one on.
        ("02:30", "04:00", "2026-10-25T00:30:00", "2026-10-25T03:00:00"),
        # 02:30 is not there on March 29: quiet to both sides of the gap.
        ("01:00", "02:30", "2026-03-29T01:15:00", "2026-03-29T01:30:00"),
        ("02:30", "04:00", "2026-03-29T00:30:00", "2026-03-29T02:00:00"),
    ],
)
def test_where_clocks_change_they_are_rather_too_long(begins, ends, now, until):
    assert quiet_until(hours(begins, ends), utc(now)) == utc(until)


def test_the_next_ones_begin_this_evening_or_tomorrow():
    night = hours("21:00", "08:00")
    assert next_quiet(night, utc("2026-06-01T12:00:00")) == utc("2026-06-01T19:00:00")
    assert next_quiet(night, utc("2026-06-01T19:00:00")) == utc("2026-06-02T19:00:00")
    noon = hours("12:00", "13:00")
    assert quiet_until(noon, utc("2026-06-01T10:30:00")) == utc("2026-06-01T11:00:00")
    assert next_quiet(SimpleNamespace(quiet_hours=None, time_zone="UTC"), timezone.now()) is None


def test_a_campaign_launched_in_its_quiet_hours_waits_for_their_end(workshops, clock):
    clock.at = utc("2026-06-01T20:00:00")
    campaign = workshops.running(2, quiet_hours=NIGHT, time_zone="Europe/Berlin")
    assert campaign.state == "running"
    lane = workshops.lane(campaign)
    assert (lane.paused_until, lane.paused_why) == (utc("2026-06-02T06:00:00"), "quiet hours")


def test_its_lane_is_shut_each_evening_and_opens_by_itself(workshop, clock):
    clock.at = utc("2026-06-01T12:00:00")
    campaign = workshop.running(3, quiet_hours=NIGHT, time_zone="Europe/Berlin")
    assert not workshop.is_shut(campaign)
    for evening in ("2026-06-01T19:00:00", "2026-06-02T19:00:00"):
        clock.at = utc(evening)
        assert workshop.work() == ["campaigns.quiet"]
        assert workshop.lane(campaign).paused_until == clock.at + timedelta(hours=11)
        clock.at += timedelta(hours=12)
    assert workshop.waiting() == ["campaigns.quiet"]


def test_nothing_goes_out_in_quiet_hours_however_late_the_job_is(workshops, clock):
    real = clock()
    clock.at = real - timedelta(hours=24)
    begins, ends = (f"{real + timedelta(hours=hours):%H:%M}" for hours in (1, 3))
    hours = {"from": begins, "until": ends}
    campaign = workshops.running(2, quiet_hours=hours, time_zone="UTC")
    assert workshops.fresh(campaign).quiet_from < real
    claim = workshops.take()[0]  # Nobody has shut the lane for 23 hours.
    assert asyncio.run(steps.send(claim)) == Snooze(60.0, "its campaign is paused")
    clock.at = None
    assert workshops.work() == ["campaigns.quiet"]
    assert workshops.fresh(campaign).quiet_from > real
    assert not workshops.is_shut(campaign)


def test_paused_or_resumed_at_night_it_does_what_its_tenant_says(workshop, clock):
    clock.at = utc("2026-06-01T12:00:00")
    campaign = workshop.running(1, quiet_hours=NIGHT, time_zone="Europe/Berlin")
    workshop.do("pause", campaign, reason="hm")
    clock.at = utc("2026-06-01T19:30:00")
    workshop.work()
    assert workshop.lane(campaign).paused_until.year == 9999
    workshop.do("resume", campaign)
    assert workshop.lane(campaign).paused_until == utc("2026-06-02T06:00:00")
    clock.at = utc("2026-06-02T09:00:00")
    workshop.do("pause", campaign, reason="hm")
    workshop.do("resume", campaign)
    assert not workshop.is_shut(campaign)


def test_once_it_is_over_nobody_looks_at_its_hours_any_more(workshop, clock):
    clock.at = utc("2026-06-01T12:00:00")
    campaign = workshop.running(1, quiet_hours=NIGHT, time_zone="Europe/Berlin")
    workshop.do("cancel", campaign, reason="no")
    clock.at = utc("2026-06-01T20:00:00")
    workshop.work()
    assert workshop.waiting() == []
    entries = AuditEntry.objects.using(OPERATOR).filter(target=f"cmp_{campaign.pk}")
    assert not entries.filter(action="campaign.expired").exists()

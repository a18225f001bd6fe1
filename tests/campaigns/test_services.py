"""Campaigns: taken in by one light transaction, and moved by their tenant afterwards."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from campaigns import services
from campaigns.errors import (
    CampaignNotFound,
    ContentMissing,
    IdempotencyConflict,
    InvalidCampaign,
    InvalidTest,
    NothingToRetry,
    StaleCampaign,
)
from campaigns.models import Campaign, ProviderAccount, Segment, Template
from campaigns.states import TRANSITIONS, CampaignState
from campaigns.wishes import FollowUp
from config.idempotency import KEPT
from jobs.errors import ReasonMissing
from jobs.outcomes import Fail, Succeeded, Unknown
from tenants.context import tenant_context
from tenants.models import AuditEntry, Tenant
from tests.campaigns import brought
from tests.campaigns.workshop import ACTOR, OPERATOR

DRAWING = Path(__file__).parents[2] / "docs" / "campaigns.md"
KEY = b"k" * 32


def in_hours(hours):
    return timezone.now() + timedelta(hours=hours)


def pointers(problem):
    return {error.pointer for error in problem.value.errors}


def actions(campaign):
    rows = AuditEntry.objects.using(OPERATOR).filter(target=f"cmp_{campaign.pk}").order_by("id")
    return [action.removeprefix("campaign.") for action in rows.values_list("action", flat=True)]


def queries(workshop, **fields):
    with tenant_context(workshop.tenant), CaptureQueriesContext(connection) as captured:
        services.create(wish=workshop.wish(**fields), actor=ACTOR, key=KEY)
    return [query["sql"] for query in captured.captured_queries]


# ---- Taking in ----


def test_it_writes_one_campaign_one_job_and_one_entry_in_both_homes(workshops):
    workshops.add_many(3)
    campaign = workshops.create()
    assert (campaign.state, campaign.total, campaign.content) == ("materialising", 0, None)
    (job,) = workshops.jobs()
    assert (job.kind, job.args) == ("campaigns.generate", {"campaign": str(campaign.pk)})
    assert actions(campaign) == ["created"]
    assert workshops.messages(campaign).count() == 0


def test_the_request_looks_at_no_customer_and_costs_the_same_however_many_there_are(workshop):
    before = queries(workshop, name="One")
    workshop.add_many(50)
    with tenant_context(workshop.tenant):
        Campaign.objects.update(idempotency_key=None)
    after = queries(workshop, name="Two")
    assert len(before) == len(after) <= 12
    assert not [sql for sql in after if "customers_customer" in sql or "campaigns_message" in sql]


def test_it_says_everything_that_is_wrong_at_once_and_writes_nothing(workshop):
    with pytest.raises(InvalidCampaign) as problem:
        workshop.create(
            name=" ",
            account_id=uuid4(),
            filter={"field": "shoe_size", "op": "=", "value": 1},
            template_id=uuid4(),
            scheduled_at=in_hours(-1),
            send_until=in_hours(24 * 400),
            quiet_hours={"from": "21:00", "until": "25:00"},
            time_zone="Mars/Olympus",
            follow_up=FollowUp(after=60, template_id=uuid4()),
        )
    assert pointers(problem) == {
        "/name", "/account_id", "/filter/field", "/template_id", "/scheduled_at", "/send_until",
        "/quiet_hours/until", "/time_zone", "/follow_up/after", "/follow_up/template_id",
    }  # fmt: skip
    assert not Campaign.objects.using(OPERATOR).filter(tenant_id=workshop.tenant.pk).exists()
    assert not workshop.jobs().exists()


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"filter": None}, "/filter"),
        ({"segment_id": uuid4(), "filter": None}, "/segment_id"),
        ({"variables": {}}, "/variables/name"),
        ({"variables": {"name": {"field": "shoe_size"}}}, "/variables/name/field"),
        ({"generator": "unheard-of"}, "/generator"),
        ({"brief": {"tone": "warm"}}, "/brief"),
        ({"template_id": None}, "/template_id"),
        ({"scheduled_at": datetime(2030, 1, 1)}, "/scheduled_at"),  # noqa: DTZ001
        ({"scheduled_at": in_hours(5), "send_until": in_hours(4)}, "/send_until"),
        ({"quiet_hours": {"from": "21:00", "until": "21:00"}}, "/quiet_hours/until"),
        ({"quiet_hours": {"from": "21:00"}}, "/quiet_hours/until"),
        ({"quiet_hours": {"from": "21:00", "until": "08:00", "to": "1"}}, "/quiet_hours"),
        ({"time_zone": "../../etc/passwd"}, "/time_zone"),
        ({"name": "a\u202eb"}, "/name"),
    ],
)
def test_it_refuses(workshop, fields, pointer):
    with pytest.raises(InvalidCampaign) as problem:
        workshop.create(**fields)
    assert pointers(problem) == {pointer}


def test_it_refuses_a_paused_account_and_one_of_somebody_else(workshop, other_tenant):
    with tenant_context(workshop.tenant):
        ProviderAccount.objects.update(status="paused", paused_reason="no money")
    with pytest.raises(InvalidCampaign) as problem:
        workshop.create()
    assert [error.message for error in problem.value.errors] == ["The account is paused: no money"]
    with pytest.raises(InvalidCampaign) as problem:
        workshop.create(account_id=brought.account(other_tenant).pk)
    assert [error.code for error in problem.value.errors] == ["account_not_found"]


def test_what_it_says_and_to_whom_is_frozen(workshop):
    with tenant_context(workshop.tenant):
        segment = brought.segment(workshop.tenant, {"field": "name", "op": "=", "value": "C1"})
    workshop.add_many(3)
    campaign = workshop.create(segment_id=segment.pk, filter=None)
    with tenant_context(workshop.tenant):
        Segment.objects.update(filter=brought.ALL)
        Template.objects.update(text="Something else")
    workshop.work()
    (message,) = workshop.messages(campaign)
    assert message.params == {"name": "C1"}
    assert workshop.fresh(campaign).content["text"] == "Hello {{ name }}"


def test_quiet_hours_are_in_the_tenants_time_zone_unless_another_is_named(workshop):
    Tenant.objects.using(OPERATOR).filter(pk=workshop.tenant.pk).update(time_zone="Asia/Tokyo")
    assert workshop.create().time_zone == "Asia/Tokyo"
    assert workshop.create(time_zone="Europe/Rome").time_zone == "Europe/Rome"


# ---- Idempotency-Key ----


def test_the_same_key_and_body_make_one_campaign(workshop):
    wish = workshop.wish()
    with tenant_context(workshop.tenant):
        first, repeated = services.create(wish=wish, actor=ACTOR, key=KEY)
        second, again = services.create(wish=wish, actor=ACTOR, key=KEY)
    assert (first.pk, repeated, again) == (second.pk, False, True)
    assert workshop.jobs().count() == 1


def test_the_same_key_with_another_body_is_refused(workshop):
    workshop.create(key=KEY)
    with pytest.raises(IdempotencyConflict):
        workshop.create(key=KEY, name="Another")
    assert Campaign.objects.using(OPERATOR).filter(tenant_id=workshop.tenant.pk).count() == 1


def test_of_many_at_once_with_one_key_one_makes_the_campaign(workshop):
    wish = workshop.wish()

    def create(_):
        try:
            with tenant_context(workshop.tenant):
                return services.create(wish=wish, actor=ACTOR, key=KEY)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        made = list(threads.map(create, range(8)))
    assert len({campaign.pk for campaign, _ in made}) == 1
    assert sorted(repeated for _, repeated in made) == [False, *[True] * 7]
    assert workshop.jobs().count() == 1


def test_a_key_is_forgotten_in_time(workshop):
    first = workshop.create(key=KEY)
    old = timezone.now() - KEPT - timedelta(minutes=1)
    Campaign.objects.using(OPERATOR).filter(pk=first.pk).update(created_at=old)
    assert workshop.create(key=KEY, name="Another").pk != first.pk


# ---- Drafts ----


def test_nothing_happens_to_a_draft_until_it_is_launched(workshop):
    workshop.add_many(1)
    campaign = workshop.create(draft=True)
    assert (campaign.state, workshop.jobs().count()) == ("draft", 0)
    with tenant_context(workshop.tenant):
        Template.objects.update(text="Good morning {{ name }}")
    assert workshop.do("launch", campaign).state == "materialising"
    workshop.work()
    found = workshop.fresh(campaign)
    assert (found.state, found.content["text"]) == ("running", "Good morning {{ name }}")
    assert actions(campaign) == ["created", "launched", "materialised"]


def test_a_draft_is_changed_as_a_whole_and_nothing_else_is(workshop):
    draft, running = workshop.create(draft=True), workshop.create()
    changed = workshop.do("change", draft, wish=workshop.wish(name="Summer", draft=True))
    assert (changed.name, changed.state) == ("Summer", "draft")
    with pytest.raises(StaleCampaign):
        workshop.do("change", running, wish=workshop.wish(name="Summer"))
    assert workshop.fresh(running).name == "Spring"


def test_launching_looks_at_everything_again(workshop):
    draft = workshop.create(draft=True)
    with tenant_context(workshop.tenant):
        Template.objects.update(deleted_at=timezone.now())
    with pytest.raises(InvalidCampaign) as problem:
        workshop.do("launch", draft)
    assert pointers(problem) == {"/template_id"}
    assert workshop.fresh(draft).state == "draft"
    assert not workshop.jobs().exists()


def test_a_campaign_is_launched_once(workshop):
    draft = workshop.create(draft=True)
    workshop.do("launch", draft)
    with pytest.raises(StaleCampaign) as problem:
        workshop.do("launch", draft)
    assert problem.value.extra == {"state": "materialising"}
    assert workshop.jobs("campaigns.generate").count() == 1


# ---- Pausing, resuming, cancelling ----


def test_paused_it_sends_nothing_and_resumed_it_goes_on_in_both_homes(workshops):
    campaign = workshops.running(3)
    assert len(workshops.take(1)) == 1
    paused = workshops.do("pause", campaign, reason="a typo")
    assert (paused.state, paused.reason) == ("paused", "a typo")
    assert workshops.take() == []
    assert workshops.messages(campaign, state="pending").count() == 2
    assert workshops.do("resume", campaign).state == "running"
    assert len(workshops.take()) == 2
    assert actions(campaign)[-2:] == ["paused", "resumed"]


def test_cancelled_it_withdraws_what_waits_and_lets_what_is_under_way_end(workshops):
    campaign = workshops.running(5)
    under_way = workshops.take(2)
    assert workshops.do("cancel", campaign, reason="wrong").state == "cancelled"
    assert workshops.work() == ["campaigns.withdraw"]
    assert workshops.counters(campaign)["cancelled"] == 3
    assert workshops.waiting() == ["campaigns.withdraw"]  # Two are under way.
    workshops.engine.settle(*((claim, Succeeded()) for claim in under_way))
    workshops.jobs("campaigns.withdraw").update(due_at=timezone.now())
    workshops.work()
    assert workshops.waiting() == []
    assert workshops.counters(campaign) == workshops.counted(campaign)
    assert workshops.counters(campaign) == {
        "sent": 2, "failed": 0, "unknown": 0, "cancelled": 3, "total": 5,
    }  # fmt: skip
    assert workshops.fresh(campaign).state == "cancelled"
    with pytest.raises(StaleCampaign):
        workshops.do("resume", campaign)


def test_moves_that_are_none_change_nothing(workshop):
    campaign = workshop.running(1)
    for name, arguments in (
        ("resume", {}), ("launch", {}), ("take_back", {}),
    ):  # fmt: skip
        with pytest.raises(StaleCampaign):
            workshop.do(name, campaign, **arguments)
    assert workshop.fresh(campaign).state == "running"
    assert not workshop.is_shut(campaign)


def test_a_strangers_campaign_is_not_found(workshop, other_tenant):
    campaign = workshop.running(1)
    with tenant_context(other_tenant):
        for name in ("pause", "cancel"):
            with pytest.raises(CampaignNotFound):
                getattr(services, name)(campaign_id=campaign.pk, actor=ACTOR, reason="mine")
    assert workshop.fresh(campaign).state == "running"


# ---- Trying again ----


def test_what_failed_is_tried_again_and_a_completed_campaign_runs_for_it(workshops):
    campaign = workshops.running(3)
    workshops.send(Fail("refused"), most=2)
    workshops.send(Succeeded())
    assert workshops.work() == ["campaigns.finish"]
    assert workshops.fresh(campaign).state == "completed"
    assert workshops.do("retry_failed", campaign, reason="they are back") == 2
    workshops.work()
    found = workshops.fresh(campaign)
    assert (found.state, found.failed, found.finished_at) == ("running", 0, None)
    assert workshops.send(Succeeded()) == 2
    workshops.work()
    found = workshops.fresh(campaign)
    assert (found.state, found.sent, found.failed) == ("completed", 3, 0)
    assert workshops.counters(campaign) == workshops.counted(campaign)
    assert actions(campaign).count("completed") == 2


def test_what_is_unknown_is_tried_again_only_when_that_is_asked(workshop):
    campaign = workshop.running(2)
    workshop.send(Unknown("no answer"))
    workshop.work()
    with pytest.raises(NothingToRetry):
        workshop.do("retry_failed", campaign, reason="again")
    assert workshop.do("retry_failed", campaign, reason="again", unknown=True) == 2
    workshop.work()
    assert workshop.fresh(campaign).state == "running"
    assert workshop.send(Succeeded()) == 2


def test_trying_again_needs_a_reason_and_a_campaign_that_sent(workshop):
    campaign = workshop.running(1)
    with pytest.raises(ReasonMissing):
        workshop.do("retry_failed", campaign, reason=" ")
    with pytest.raises(StaleCampaign):
        workshop.do("retry_failed", workshop.create(draft=True), reason="again")


# ---- Tests ----


def test_a_test_goes_out_beside_all_else_and_nobody_counts_it(workshops):
    draft = workshops.create(draft=True)
    test = workshops.do("test_send", draft, phone="+49 30 901820", params={"name": "Ada"})
    assert (test.phone, test.params, test.test) == ("+4930901820", {"name": "Ada"}, True)
    assert workshops.fresh(draft).content["text"] == "Hello {{ name }}"
    (claim,) = workshops.take()
    assert claim.data["stopped"] is False
    workshops.engine.settle((claim, Succeeded()))
    assert workshops.counters(draft)["sent"] == 0
    assert workshops.fresh(draft).state == "draft"


def test_a_test_says_what_is_wrong_with_it(workshop):
    draft = workshop.create(draft=True)
    with pytest.raises(InvalidTest) as problem:
        workshop.do("test_send", draft, phone="1234", params={"nmae": "Ada"})
    assert pointers(problem) == {"/phone", "/params/name", "/params/nmae"}
    assert workshop.messages(draft).count() == 0


def test_a_test_waits_for_its_generator(workshop, settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "GENERATORS": {"ai": "tests.campaigns.generators.friendly"}
    }
    draft = workshop.create(draft=True, template_id=None, generator="ai", brief={"tone": "warm"})
    with pytest.raises(ContentMissing):
        workshop.do("test_send", draft, phone="+4930901820", params={})


# ---- States ----


def test_the_drawing_shows_every_move_and_no_other():
    chart = re.search(r"```mermaid\n(stateDiagram.*?)```", DRAWING.read_text(), re.DOTALL)[1]
    arrows = re.findall(r"^\s*(\S+) --> (\w+|\[\*\])", chart, re.MULTILINE)
    drawn = {(start, end) for start, end in arrows if "[*]" not in (start, end)}
    assert drawn == {(str(start), str(end)) for start, end in TRANSITIONS}


def test_every_state_can_be_reached():
    reached = {CampaignState.DRAFT} | {end for _, end in TRANSITIONS}
    assert reached == set(CampaignState)


def test_a_wish_is_the_same_in_whatever_order_it_is_said(workshop):
    at = datetime(2030, 1, 1, tzinfo=UTC)
    one = workshop.wish(scheduled_at=at, filter={"field": "name", "op": "=", "value": "a"})
    other = workshop.wish(filter={"value": "a", "op": "=", "field": "name"}, scheduled_at=at)
    assert one.fingerprint() == other.fingerprint() != workshop.wish().fingerprint()

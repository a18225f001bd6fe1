"""Materialising: a message for everybody who may have one, once, whatever happens meanwhile."""

from functools import partial

import pytest
from django.db import connection

from campaigns import materialising, writing
from campaigns.models import Campaign, Message
from customers.models import Customer, Suppression
from jobs.errors import LeaseLost
from jobs.outcomes import Snooze, Succeeded
from tenants.context import tenant_context
from tenants.models import AuditEntry
from tests.campaigns.workshop import ACTOR, OPERATOR


@pytest.fixture
def small_chunks(monkeypatch):
    """Three customers at a time, whatever they take."""
    monkeypatch.setattr(materialising.Pace, "took", lambda self, seconds: None)
    monkeypatch.setattr(materialising, "Pace", partial(materialising.Pace, size=3))


def chunk(workshop, claim, campaign):
    """The next three customers; whether they were the last."""
    with tenant_context(workshop.tenant):
        return materialising._chunk(claim, campaign.pk, materialising.Pace(size=3))


def audience(workshop, campaign):
    return sorted(message.phone for message in workshop.messages(campaign))


def test_everybody_gets_a_message_with_what_it_says_in_both_homes(workshops):
    workshops.add(
        {"name": "Ada", "phone": "+4930100001", "consent": "given"},
        {"name": "Bob", "phone": "+4930100002", "consent": "given"},
    )
    campaign = workshops.create()
    assert workshops.work() == ["campaigns.generate", "campaigns.materialise"]
    found = workshops.fresh(campaign)
    assert (found.state, found.total, found.skipped) == ("running", 2, 0)
    assert found.started_at is not None
    first, second = workshops.messages(campaign).order_by("phone")
    assert (first.phone, first.params) == ("+4930100001", {"name": "Ada"})
    assert (second.phone, second.params) == ("+4930100002", {"name": "Bob"})
    assert first.lane == f"campaign:{campaign.pk}"
    assert first.account_key == f"account:{workshops.account.pk}"
    assert first.state == "pending"
    assert first.customer_id is not None
    assert not workshops.is_shut(campaign)


def test_it_says_why_others_get_none_in_both_homes(workshops):
    with tenant_context(workshops.tenant):
        Suppression.objects.create(phone="+4930100004", actor=ACTOR)
    workshops.add(
        {"name": "No phone", "phone": "", "consent": "given"},
        {"name": "Never asked", "phone": "+4930100002", "consent": "unknown"},
        {"name": "Opted out", "phone": "+4930100003", "consent": "withdrawn"},
        {"name": "On the list", "phone": "+4930100004", "consent": "given"},
        {"name": "", "phone": "+4930100005", "consent": "given"},
        {"name": "First", "phone": "+4930100006", "consent": "given"},
        {"name": "Second", "phone": "+4930100006", "consent": "given"},
    )
    campaign = workshops.create()
    workshops.work()
    (message,) = workshops.messages(campaign)
    assert message.params == {"name": "First"}
    assert workshops.skips(campaign) == {
        "no_phone": 1, "no_consent": 1, "opted_out": 1, "suppressed": 1,
        "missing_variable": 1, "duplicate_phone": 1,
    }  # fmt: skip
    found = workshops.fresh(campaign)
    assert (found.total, found.skipped) == (1, 6)


def test_only_those_that_the_filter_means_are_looked_at(workshop):
    workshop.add_many(3)
    workshop.add({"name": "Rich", "phone": "+4930200000", "consent": "given", "lifetime_value": 9})
    campaign = workshop.create(filter={"field": "lifetime_value", "op": ">", "value": 5})
    workshop.work()
    assert audience(workshop, campaign) == ["+4930200000"]
    assert workshop.skips(campaign) == {}


def test_it_goes_on_behind_the_last_chunk_when_it_was_killed(workshops, small_chunks, monkeypatch):
    workshops.add_many(10)
    campaign = workshops.create()
    workshops.settle(workshops.claim("campaigns.generate"))
    claim = workshops.claim("campaigns.materialise")
    real, calls = materialising._write, []

    def killed(*given):
        calls.append(given)
        ended = real(*given)
        if len(calls) == 3:
            raise SystemError("killed before the commit")
        return ended

    monkeypatch.setattr(materialising, "_write", killed)
    with pytest.raises(SystemError):
        materialising.run(claim)
    # The third chunk is not counted; who wrote the half of it beside was not killed.
    assert workshops.fresh(campaign).total == 6 <= workshops.messages(campaign).count() < 9
    assert workshops.is_shut(campaign)
    monkeypatch.setattr(materialising, "_write", real)
    workshops.engine.hand_back(claim)
    workshops.work()
    found = workshops.fresh(campaign)
    assert (found.state, found.total) == ("running", 10)
    assert len(set(audience(workshops, campaign))) == 10


@pytest.fixture
def dies_beside(monkeypatch):
    """The one who writes the even half dies, once, when the other half is committed."""
    real = writing.write

    def write(campaign, edge, half=writing.Half.BOTH, **torn):
        if half == writing.Half.EVEN:
            monkeypatch.setattr(writing, "write", real)
            raise SystemError("killed before the commit")
        return real(campaign, edge, half, **torn)

    monkeypatch.setattr(writing, "write", write)


def of_all_kinds(workshop):
    """Twelve who get a message, six and six; and three who do not, two of them late ones."""
    workshop.add_many(12)  # Their numbers end with all digits.
    workshop.add(
        {"name": "Ada again", "phone": "+4930100000", "consent": "given"},
        {"name": "Bob again", "phone": "+4930100007", "consent": "given"},
        {"name": "Opted out", "phone": "+4930200001", "consent": "withdrawn"},
    )


def counted(workshop, campaign):
    """Messages, those who were left out and why: by the campaign, and by what there is."""
    found, rows = workshop.fresh(campaign), workshop.messages(campaign)
    skips = workshop.skips(campaign)
    assert (found.total, found.skipped) == (rows.count(), sum(skips.values()))
    return found.total, skips


def transactions(workshop, campaign):
    """Whose messages each wrote: 0 of even numbers, 1 of odd ones."""
    with tenant_context(workshop.tenant), connection.cursor() as cursor:
        cursor.execute(
            "select array_agg(distinct right(phone, 1)::int %% 2) from campaigns_message"
            " where campaign_id = %s group by xmin::text",
            [campaign.pk],
        )
        return sorted(halves for (halves,) in cursor.fetchall())


def test_two_share_a_chunk_and_each_number_gets_one_message(workshops, small_chunks):
    of_all_kinds(workshops)
    campaign = workshops.create()
    workshops.work()
    assert counted(workshops, campaign) == (12, {"duplicate_phone": 2, "opted_out": 1})
    assert len(set(audience(workshops, campaign))) == 12
    names = {message.params["name"] for message in workshops.messages(campaign)}
    assert names.isdisjoint({"Ada again", "Bob again"})
    assert transactions(workshops, campaign) == [[0]] * 3 + [[0, 1]] + [[1]] * 3


def test_what_half_a_chunk_wrote_is_counted_once(workshops, small_chunks, dies_beside):
    of_all_kinds(workshops)
    campaign = workshops.create()
    workshops.settle(workshops.claim("campaigns.generate"))
    claim = workshops.claim("campaigns.materialise")
    with pytest.raises(SystemError):
        materialising.run(claim)
    left = workshops.messages(campaign).count()
    assert left > workshops.fresh(campaign).total == 3
    workshops.engine.hand_back(claim)
    workshops.work()
    assert counted(workshops, campaign) == (12, {"duplicate_phone": 2, "opted_out": 1})
    assert workshops.fresh(campaign).state == "running"


def test_whom_half_a_chunk_left_out_is_counted_once(workshop, monkeypatch, dies_beside):
    workshop.add_many(3)
    workshop.add(
        {"name": "Opted out", "phone": "+4930200001", "consent": "withdrawn"},
        {"name": "Twice", "phone": "+4930100001", "consent": "given"},
        {"name": "Even", "phone": "+4930200002", "consent": "given"},
    )
    campaign = workshop.create()
    workshop.settle(workshop.claim("campaigns.generate"))
    claim = workshop.claim("campaigns.materialise")
    monkeypatch.setattr(materialising, "Pace", partial(materialising.Pace, size=3))
    with pytest.raises(SystemError):
        materialising.run(claim)
    assert sum(workshop.skips(campaign).values()) == 2 > workshop.fresh(campaign).skipped
    workshop.engine.hand_back(claim)
    workshop.work()
    assert counted(workshop, campaign) == (4, {"opted_out": 1, "duplicate_phone": 1})


def test_what_half_a_chunk_wrote_of_a_cancelled_campaign_is_withdrawn(workshop, small_chunks):
    """Its other half lost its connection; the campaign was cancelled before this one committed."""
    workshop.add_many(9)
    campaign = workshop.create()
    workshop.settle(workshop.claim("campaigns.generate"))
    claim = workshop.claim("campaigns.materialise")
    chunk(workshop, claim, campaign)
    before = workshop.fresh(campaign)
    workshop.do("cancel", campaign, reason="wrong segment")
    workshop.settle(workshop.claim("campaigns.withdraw"))
    with tenant_context(workshop.tenant):
        late = materialising._write_odd(claim, before, None)
    assert late.made > 0
    assert workshop.settle(claim) == Succeeded()
    workshop.work()
    assert set(workshop.messages(campaign).values_list("state", flat=True)) == {"cancelled"}
    found = workshop.fresh(campaign)
    assert found.total == found.cancelled == workshop.messages(campaign).count() == 3 + late.made


def test_half_a_chunk_of_a_lost_lease_is_not_written(workshop, small_chunks):
    workshop.add_many(4)
    campaign = workshop.create()
    workshop.settle(workshop.claim("campaigns.generate"))
    claim = workshop.claim("campaigns.materialise")
    workshop.engine.hand_back(claim)
    with tenant_context(workshop.tenant), pytest.raises(LeaseLost):
        materialising._write_odd(claim, workshop.fresh(campaign), None)
    assert workshop.messages(campaign).count() == 0


def test_who_finds_no_second_connection_writes_alone(workshop, small_chunks):
    workshop.add_many(9)
    campaign = workshop.create()
    for _ in range(materialising.SECOND_WRITERS):
        assert materialising._second_writers.acquire(blocking=False)
    try:
        workshop.work()
    finally:
        for _ in range(materialising.SECOND_WRITERS):
            materialising._second_writers.release()
    assert counted(workshop, campaign) == (9, {})
    with tenant_context(workshop.tenant), connection.cursor() as cursor:
        cursor.execute("select count(distinct xmin::text) from campaigns_message")
        assert cursor.fetchone() == (3,)


def test_a_chunk_of_a_lost_lease_writes_nothing(workshop, small_chunks):
    workshop.add_many(4)
    campaign = workshop.create()
    workshop.settle(workshop.claim("campaigns.generate"))
    claim = workshop.claim("campaigns.materialise")
    workshop.engine.hand_back(claim)
    with pytest.raises(LeaseLost):
        materialising.run(claim)
    assert workshop.messages(campaign).count() == 0
    assert workshop.fresh(campaign).place is None


def test_nothing_goes_out_before_everybody_has_a_message(workshop, small_chunks, monkeypatch):
    workshop.add_many(5)
    campaign = workshop.create()
    workshop.settle(workshop.claim("campaigns.generate"))
    claim = workshop.claim("campaigns.materialise")
    monkeypatch.setattr(materialising, "STRETCH", 0.0)
    assert isinstance(materialising.run(claim), Snooze)
    assert chunk(workshop, claim, campaign) is False
    assert workshop.messages(campaign).count() == 3
    assert workshop.take() == []
    assert chunk(workshop, claim, campaign) is True
    assert len(workshop.take()) == 5


def test_a_long_one_gives_others_their_turn(workshop, small_chunks, monkeypatch):
    workshop.add_many(4)
    workshop.create()
    workshop.settle(workshop.claim("campaigns.generate"))
    monkeypatch.setattr(materialising, "STRETCH", 0.0)
    outcome = workshop.settle(workshop.claim("campaigns.materialise"))
    assert outcome == Snooze(0.0, "there is more to do")


def test_a_campaign_of_nobody_is_completed_at_once(workshop):
    campaign = workshop.create()
    workshop.work()
    found = workshop.fresh(campaign)
    assert (found.state, found.total) == ("completed", 0)
    assert found.finished_at is not None
    assert workshop.is_shut(campaign)


def test_paused_meanwhile_it_is_prepared_and_stays_paused(workshop, small_chunks):
    workshop.add_many(4)
    campaign = workshop.create()
    workshop.settle(workshop.claim("campaigns.generate"))
    claim = workshop.claim("campaigns.materialise")
    assert chunk(workshop, claim, campaign) is False
    workshop.do("pause", campaign, reason="a typo")
    assert materialising.run(claim) == Succeeded()
    found = workshop.fresh(campaign)
    assert (found.state, found.total, found.reason) == ("paused", 4, "a typo")
    assert found.materialised_at is not None
    assert workshop.take() == []
    workshop.do("resume", campaign)
    assert workshop.fresh(campaign).state == "running"
    assert len(workshop.take()) == 4


def test_cancelled_meanwhile_it_stops_and_what_was_made_is_withdrawn(workshop, small_chunks):
    workshop.add_many(7)
    campaign = workshop.create()
    workshop.settle(workshop.claim("campaigns.generate"))
    claim = workshop.claim("campaigns.materialise")
    chunk(workshop, claim, campaign)
    workshop.do("cancel", campaign, reason="wrong segment")
    assert workshop.settle(claim) == Succeeded()
    workshop.work()
    found = workshop.fresh(campaign)
    assert (found.state, found.total, found.cancelled) == ("cancelled", 3, 3)
    assert set(workshop.messages(campaign).values_list("state", flat=True)) == {"cancelled"}


def test_whoever_comes_later_or_is_another_tenants_is_left_out(workshop, other_tenant):
    workshop.add_many(2)
    with tenant_context(other_tenant):
        Customer.objects.create(name="Theirs", phone="+4930999999", consent="given")
    campaign = workshop.create()
    workshop.work()
    workshop.add({"name": "Late", "phone": "+4930300000", "consent": "given"})
    assert audience(workshop, campaign) == ["+4930100000", "+4930100001"]
    assert set(workshop.messages(campaign).values_list("tenant_id", flat=True)) == {
        workshop.tenant.pk
    }


def test_the_pace_keeps_a_chunk_short():
    pace = materialising.Pace()
    pace.took(4.0)
    assert pace.size == materialising.FIRST // 2
    for _ in range(20):
        pace.took(0.01)
    assert pace.size == materialising.MOST
    for _ in range(20):
        pace.took(60.0)
    assert pace.size == materialising.FEWEST


def test_the_audit_trail_says_how_many_and_names_nobody(workshop):
    campaign = workshop.running(2)
    entry = AuditEntry.objects.using(OPERATOR).get(
        target=f"cmp_{campaign.pk}", action="campaign.materialised"
    )
    assert entry.after == {"messages": 2, "skipped": 0}
    assert Message.objects.using(OPERATOR).filter(campaign_id=campaign.pk).count() == 2


def test_a_chunk_looks_at_its_own_customers_and_at_those_who_withdrew(workshops):
    """And not at all that the tenant has, once for each chunk."""
    workshops.add_many(3)
    campaign = workshops.create()
    workshops.settle(workshops.claim("campaigns.generate"))
    with tenant_context(workshops.tenant), connection.cursor() as cursor:
        found = Campaign.objects.get(pk=campaign.pk)
        statement, values = writing.statement_of(found)
        values |= {"place": writing.NOBODY, "edge": writing.EVERYBODY}
        # Of a few rows all are looked at, whatever there is: the plan is that of many.
        cursor.execute("set enable_seqscan to off")
        try:
            cursor.execute(f"explain {statement}", values)
            plan = "\n".join(line for (line,) in cursor.fetchall())
        finally:
            cursor.execute("reset enable_seqscan")
    assert "using customer_withdrawn on customers_customer other" in plan
    assert "Seq Scan on customers_customer" not in plan

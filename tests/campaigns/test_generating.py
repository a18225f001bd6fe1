"""Generating: a campaign's content, made by whoever makes it, in nobody else's way."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from django.db import connections

from campaigns import generating, tending
from jobs import services as jobs
from jobs.models import DeadLetter
from jobs.outcomes import Fail, Snooze, Succeeded
from tenants.models import AuditEntry
from tests.campaigns import generators
from tests.campaigns.workshop import ACTOR, OPERATOR
from webhooks.models import Event


@pytest.fixture(autouse=True)
def project(settings):
    """A project with generators of its own."""
    names = ("friendly", "broken", "strange", "silent", "slow")
    own = {name: f"tests.campaigns.generators.{name}" for name in names}
    generators.calls.clear()
    generators.gate.clear()
    settings.SLIPWAY = settings.SLIPWAY | {"GENERATORS": settings.SLIPWAY["GENERATORS"] | own}


def made(workshop, generator, **fields):
    return workshop.create(template_id=None, generator=generator, brief={"tone": "warm"}, **fields)


def exhaust(workshop):
    """Try until there is no attempt left."""
    while claims := workshop.claims():
        for claim in claims:
            workshop.settle(claim)
        workshop.jobs().filter(state="failed").update(state="pending")


def letter(workshop):
    return DeadLetter.objects.using(OPERATOR).get(tenant_id=workshop.tenant.pk, resolved_at=None)


def test_a_project_makes_the_content_of_the_brief_in_both_homes(workshops):
    workshops.add_many(1)
    campaign = made(workshops, "friendly")
    workshops.work()
    found = workshops.fresh(campaign)
    assert generators.calls == [{"tone": "warm"}]
    assert found.state == "running"
    assert found.content == {
        "text": "Dear {{ name }}", "external_name": "spring", "language": "de",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("generator", "why"),
    [
        ("strange", "its content cannot be sent: /variables/nmae"),
        ("silent", "its content cannot be sent: a Content was expected, not a str"),
    ],
)
def test_content_that_cannot_be_sent_fails_the_campaign_at_once(workshop, generator, why):
    campaign = made(workshop, generator)
    claim = workshop.claim("campaigns.generate")
    assert isinstance(workshop.settle(claim), Fail)
    found = workshop.fresh(campaign)
    assert found.state == "failed"
    assert found.reason.startswith(why)
    assert letter(workshop).error.startswith(why)
    assert workshop.messages(campaign).count() == 0


def test_out_of_attempts_the_campaign_has_failed_and_its_job_is_in_the_inbox(workshop):
    campaign = made(workshop, "broken")
    exhaust(workshop)
    assert len(generators.calls) == generating.POLICY.attempts
    found = workshop.fresh(campaign)
    assert found.state == "failed"
    assert letter(workshop).reason == "exhausted"
    event = Event.objects.using(OPERATOR).get(tenant_id=workshop.tenant.pk)
    assert event.type == "campaign.failed"


def test_what_a_generator_raised_is_told_to_operators_and_not_to_the_tenant(workshop):
    campaign = made(workshop, "broken")
    exhaust(workshop)
    assert workshop.fresh(campaign).reason == "its generator failed (RuntimeError)"
    assert letter(workshop).error.endswith("RuntimeError: the model is away")
    event = Event.objects.using(OPERATOR).get(tenant_id=workshop.tenant.pk)
    entries = AuditEntry.objects.using(OPERATOR).filter(tenant_id=workshop.tenant.pk)
    told = [str(event.kept_payload), *map(str, entries.values_list("reason", "after"))]
    assert "the model is away" not in "".join(told)


def test_the_replay_of_its_letter_has_the_campaign_begin_again(workshop, settings):
    workshop.add_many(2)
    campaign = made(workshop, "broken")
    exhaust(workshop)
    settings.SLIPWAY["GENERATORS"]["broken"] = "tests.campaigns.generators.friendly"
    jobs.replay(dead_letter=letter(workshop), actor=ACTOR, reason="the model is back")
    workshop.work()
    found = workshop.fresh(campaign)
    assert (found.state, found.total, found.reason) == ("running", 2, "")
    assert found.finished_at is None


def test_cancelled_meanwhile_nothing_comes_of_it(workshop):
    campaign = made(workshop, "friendly")
    claim = workshop.claim("campaigns.generate")
    workshop.do("cancel", campaign, reason="no")
    assert workshop.settle(claim) == Succeeded()
    assert generators.calls == []
    assert not workshop.jobs("campaigns.materialise").exists()


def run_apart(claim):
    """As a drainer's thread does."""
    try:
        return generating.run(claim)
    finally:
        connections.close_all()


def until_under_way(count):
    while len(generating._rooms.taken) < count:
        threading.Event().wait(0.01)


def test_slow_generators_of_a_tenant_take_only_so_many_threads(workshop):
    workshop.add_many(1)
    for n in range(generating.AT_ONCE_OF_TENANT + 1):
        made(workshop, "slow", name=f"Slow {n}")
    *begun, last = workshop.claims()
    assert len(begun) == generating.AT_ONCE_OF_TENANT
    with ThreadPoolExecutor(len(begun)) as threads:
        running = [threads.submit(run_apart, claim) for claim in begun]
        until_under_way(len(begun))
        assert workshop.settle(last) == Snooze(1.0, "others are being generated")
        generators.gate.set()
        assert [future.result() for future in running] == [Succeeded()] * len(begun)
    assert not generating._rooms.taken


def test_a_generator_that_hangs_has_its_room_until_its_deadline_and_no_longer(workshop):
    workshop.add_many(1)
    for n in range(generating.AT_ONCE_OF_TENANT + 1):
        made(workshop, "slow", name=f"Hanging {n}")
    *begun, last = workshop.claims()
    ends_at = time.monotonic() + 1.0
    with ThreadPoolExecutor(len(begun) + 1) as threads:
        hanging = [threads.submit(run_apart, replace(one, deadline=ends_at)) for one in begun]
        until_under_way(len(begun))
        assert generating.run(last) == Snooze(1.0, "others are being generated")
        while time.monotonic() < ends_at:
            threading.Event().wait(0.05)
        next_one = threads.submit(run_apart, last)
        while list(generating._rooms.taken.values()) != [last]:
            assert not next_one.done()
            threading.Event().wait(0.01)
        generators.gate.set()
        assert [one.result() for one in [*hanging, next_one]] == [Succeeded()] * (len(begun) + 1)
    assert not generating._rooms.taken


def test_a_slow_generator_delays_no_other_campaign(workshop):
    workshop.add_many(1)
    slow = made(workshop, "slow")
    claim = workshop.claim("campaigns.generate")
    quick = workshop.create(name="Quick")
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(run_apart, claim)
        until_under_way(1)
        workshop.work()
        states = workshop.fresh(quick).state, workshop.fresh(slow).state
        generators.gate.set()
        assert running.result() == Succeeded()
    assert states == ("running", "materialising")


def test_a_job_that_died_without_a_word_fails_its_campaign(workshops):
    campaign = made(workshops, "friendly")
    claim = workshops.claim("campaigns.generate")
    workshops.engine.settle((claim, Fail("it was killed too often")))
    assert workshops.fresh(campaign).state == "materialising"
    assert tending.tend() == 1
    found = workshops.fresh(campaign)
    assert (found.state, found.reason) == ("failed", "its preparation was given up")
    assert tending.tend() == 0
    jobs.replay(dead_letter=letter(workshops), actor=ACTOR, reason="the machine is back")
    workshops.work()
    assert workshops.fresh(campaign).state == "completed"  # There is nobody to write to.

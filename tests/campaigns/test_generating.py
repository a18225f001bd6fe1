"""Generating: a campaign's content, made by whoever makes it, in nobody else's way."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from django.db import connections

from campaigns import generating
from jobs import services as jobs
from jobs.models import DeadLetter
from jobs.outcomes import Fail, Snooze, Succeeded
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
    assert (found.state, "the model is away" in found.reason) == ("failed", True)
    assert letter(workshop).reason == "exhausted"
    event = Event.objects.using(OPERATOR).get(tenant_id=workshop.tenant.pk)
    assert event.type == "campaign.failed"


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


def test_slow_generators_take_only_so_many_of_a_process_threads(workshop, monkeypatch):
    monkeypatch.setattr(generating, "AT_ONCE_OF_TENANT", 2)
    workshop.add_many(1)
    slow = [made(workshop, "slow", name=f"Slow {n}") for n in range(3)]
    claims = workshop.claims()
    assert len(claims) == 3

    def run(claim):
        try:
            return generating.run(claim)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(3) as threads:
        begun = [threads.submit(run, claim) for claim in claims[:2]]
        while generating._rooms.taken.total() < 2:
            threading.Event().wait(0.01)
        assert threads.submit(run, claims[2]).result() == Snooze(1.0, "others are being generated")
        other = replace(claims[2], tenant_id=claims[2].tenant_id)
        assert other == claims[2]
        generators.gate.set()
        assert [future.result() for future in begun] == [Succeeded()] * 2
    assert generating._rooms.taken.total() == 0
    assert len(slow) == 3


def test_a_slow_generator_delays_no_other_campaign(workshop):
    workshop.add_many(1)
    made(workshop, "slow")
    quick = workshop.create(name="Quick")
    slow_claim = workshop.claims()[0]
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(_run_apart, slow_claim)
        claims = workshop.claims()
        workshop.engine.hand_back(*claims)
        workshop.work()
        assert workshop.fresh(quick).state in {"running", "materialising"}
        generators.gate.set()
        waiting.result()


def _run_apart(claim):
    try:
        return generating.run(claim)
    finally:
        connections.close_all()

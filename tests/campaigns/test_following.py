"""Follow-ups: a second message, to those who were sent the first and did not read it."""

from datetime import timedelta

from django.utils import timezone

from campaigns import accounts
from campaigns.following import child_id
from campaigns.models import Campaign, Template
from campaigns.wishes import FollowUp
from customers.models import Customer
from jobs.outcomes import Fail, Succeeded
from tenants.context import tenant_context
from tests.campaigns import brought
from tests.campaigns.workshop import ACTOR, OPERATOR


def followed(workshop, count=4, **fields):
    """A campaign that sends, and is followed up after two hours."""
    second = brought.template(workshop.tenant, "Still there, {{ name }}?", name="Second")
    later = FollowUp(
        after=7200, template_id=second.pk, variables={"name": {"field": "name", "default": "you"}}
    )
    return workshop.running(count, follow_up=later, **fields)


def child_of(campaign):
    return Campaign.objects.using(OPERATOR).filter(pk=child_id(campaign.pk)).first()


def test_those_who_did_not_read_get_a_second_message_in_both_homes(workshops, clock):
    parent = followed(workshops, 5)
    workshops.send(Fail("refused"), most=1)
    workshops.send(Succeeded())
    failed, read, undelivered, opted_out, waiting = workshops.messages(parent)
    now = timezone.now()
    workshops.messages(parent, pk=read.pk).update(read_at=now)
    workshops.messages(parent, pk=undelivered.pk).update(undelivered_at=now)
    with tenant_context(workshops.tenant):
        Customer.objects.filter(pk=opted_out.customer_id).update(consent="withdrawn")
        Template.objects.update(text="Changed since")
    workshops.work()
    clock.pass_(hours=1)
    assert workshops.work() == []
    clock.pass_(hours=2)
    assert workshops.work() == [
        "campaigns.follow_up", "campaigns.generate", "campaigns.materialise",
    ]  # fmt: skip
    child = child_of(parent)
    assert (child.state, child.parent_id, child.total) == ("running", parent.pk, 1)
    assert child.content["text"] == "Still there, {{ name }}?"
    assert child.account_id == parent.account_id
    (message,) = workshops.messages(child)
    assert message.customer_id == waiting.customer_id
    assert workshops.skips(child) == {"opted_out": 1}
    assert failed.state == "dead_letter"


def test_a_cancelled_campaign_is_not_followed_up(workshop, clock):
    parent = followed(workshop)
    workshop.send(Succeeded(), most=2)
    workshop.do("cancel", parent, reason="no")
    workshop.work()
    clock.pass_(hours=5)
    workshop.work()
    assert child_of(parent) is None


def test_there_is_one_follow_up_however_often_the_campaign_comes_to_its_end(workshop, clock):
    parent = followed(workshop, 3)
    workshop.send(Fail("refused"), most=1)
    workshop.send(Succeeded())
    workshop.work()
    clock.pass_(hours=1)
    workshop.do("retry_failed", parent, reason="again")
    workshop.work()
    workshop.send(Succeeded())
    workshop.work()
    clock.pass_(hours=1, minutes=30)  # Two hours after its first end, not after the second.
    assert workshop.work() == ["campaigns.follow_up"]
    assert child_of(parent) is None
    clock.pass_(hours=1)
    workshop.work()
    assert child_of(parent).total == 3
    assert Campaign.objects.using(OPERATOR).filter(parent_id=parent.pk).count() == 1


def test_without_its_account_nobody_is_followed_up(workshop, clock):
    parent = followed(workshop, 1)
    workshop.send(Succeeded())
    workshop.work()
    with tenant_context(workshop.tenant):
        accounts.delete(account_id=parent.account_id, actor=ACTOR)
    clock.pass_(hours=5)
    assert workshop.work() == ["campaigns.follow_up"]
    assert child_of(parent) is None


def test_where_nothing_was_sent_nobody_is_followed_up(workshop, clock):
    parent = followed(workshop, 1)
    workshop.send(Fail("refused"))
    workshop.work()
    clock.pass_(hours=5)
    assert workshop.work() == []
    assert child_of(parent) is None


def test_it_is_due_so_long_after_the_end(workshop):
    parent = followed(workshop, 1)
    workshop.send(Succeeded())
    workshop.work()
    (job,) = workshop.jobs("campaigns.follow_up")
    assert job.due_at - workshop.fresh(parent).finished_at == timedelta(hours=2)

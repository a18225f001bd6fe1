"""What is kept of messages that came to no good end."""

from datetime import timedelta

from django.utils import timezone

from campaigns.models import Campaign
from campaigns.retention import NUMBERS
from jobs import pruning
from jobs.outcomes import Fail, Unknown
from tests.campaigns.workshop import OPERATOR


def ended(campaign, *, days):
    rows = Campaign.objects.using(OPERATOR).filter(pk=campaign.pk)
    rows.update(finished_at=timezone.now() - timedelta(days=days))


def test_the_numbers_of_what_failed_or_is_unknown_go_long_after_the_end(workshops):
    campaign = workshops.running(2)
    workshops.send(Fail("refused"), most=1)
    workshops.send(Unknown("perhaps sent: no answer"))
    workshops.work()
    ended(campaign, days=179)
    pruning.prune(NUMBERS)
    assert "" not in workshops.messages(campaign).values_list("phone", flat=True)
    ended(campaign, days=181)
    assert NUMBERS in pruning.sorts()
    assert pruning.prunable(NUMBERS) == pruning.prune(NUMBERS) == 2
    assert set(workshops.messages(campaign).values_list("phone", flat=True)) == {""}
    assert [message.params for message in workshops.messages(campaign)] == [{}, {}]
    assert workshops.counters(campaign) == workshops.counted(campaign)

"""The job `campaigns.generate`: what the campaign says, and then its audience.

A project's generator may take minutes, and may fail. Each campaign's job has a lane of its own, and
only so many are under way in one process, and of one tenant: the other jobs have their room. Out of
attempts, the campaign has failed and its job is a dead letter; replayed, the campaign begins again.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import connection, transaction

from campaigns import endings, errands, moves, parts, variables
from campaigns.checking import TEMPLATE
from campaigns.errors import CampaignNotFound
from campaigns.generators import Content, generator
from campaigns.models import Campaign
from campaigns.states import CampaignState
from config.problems import FieldError, Problem
from jobs.fence import hold
from jobs.outcomes import Fail, Outcome, Retry, Snooze, Succeeded
from jobs.retry import RetryPolicy
from jobs.steps import Claim
from tenants.context import tenant_context

# Eight tries spread over about five minutes at the mean.
POLICY = RetryPolicy(attempts=8, base=5.0, cap=300.0)
AT_ONCE = 8  # Generators under way in one process, half of a drainer's jobs;
AT_ONCE_OF_TENANT = 2  # and one tenant's of them.
EXTERNAL_NAME_MOST, LANGUAGE_MOST = 512, 15  # Characters.

S = CampaignState


class _Useless(Exception):
    """What a generator made cannot be sent, and would not be the next time."""


class _Rooms:
    """The generators that are under way. One that hangs has its room until its job's deadline."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.taken: dict[tuple[UUID, int], Claim] = {}  # By the claim's work and lease.

    @contextmanager
    def room(self, claim: Claim) -> Iterator[bool]:
        """Whether there is room for this one, in the block."""
        key = claim.id, claim.lease
        with self.lock:
            free = self._is_free(claim.tenant_id)
            if free:
                self.taken[key] = claim
        try:
            yield free
        finally:
            with self.lock:
                self.taken.pop(key, None)

    def _is_free(self, tenant_id: int) -> bool:
        # The drainer has given up those past their deadline, and has other threads in their place.
        now = time.monotonic()
        self.taken = {key: one for key, one in self.taken.items() if one.deadline > now}
        of_tenant = sum(one.tenant_id == tenant_id for one in self.taken.values())
        return len(self.taken) < AT_ONCE and of_tenant < AT_ONCE_OF_TENANT


_rooms = _Rooms()


def run(claim: Claim) -> Outcome:
    """The job `campaigns.generate`."""
    with tenant_context(claim.tenant):
        campaign = _begun(claim)
        if campaign is None:
            return Succeeded()
        if campaign.generator == TEMPLATE:
            return _generate(claim, campaign)
        connection.close()  # Others may have it for as long as this takes.
        with _rooms.room(claim) as free:
            if not free:
                return Snooze(1.0, "others are being generated")
            return _generate(claim, campaign)


def _generate(claim: Claim, campaign: Campaign) -> Outcome:
    try:
        content = _checked(generator(campaign.generator)(campaign.brief, campaign), campaign)
    except _Useless as useless:
        why = f"its content cannot be sent: {useless}"
        _give_up(claim, campaign.pk, why)
        return Fail(why)
    except Exception as error:  # A project's own code: it may raise anything.
        why = f"its generator {campaign.generator!r} failed: {type(error).__name__}: {error}"
        if not POLICY.allows(claim.attempt - claim.forgiven, age=0.0):
            # What it raised may quote anything: it stays in the job's attempts, for operators.
            _give_up(claim, campaign.pk, f"its generator failed ({type(error).__name__})")
        return Retry(why)
    _keep(claim, campaign.pk, content)
    return Succeeded()


def _begun(claim: Claim) -> Campaign | None:
    """The campaign that is to have its content; None where nobody wants it any more."""
    with transaction.atomic():
        hold(claim)
        try:
            campaign = moves.locked(UUID(claim.data["args"]["campaign"]))
        except CampaignNotFound:
            return None
        if campaign.state == S.FAILED:  # Its dead letter was replayed.
            moves.begin_again(campaign)
        return campaign if campaign.state in (S.MATERIALISING, S.PAUSED) else None


def _checked(content: Content, campaign: Campaign) -> Content:
    """The content, which can be sent to everybody. Raises _Useless."""
    if not isinstance(content, Content):
        raise _Useless(f"a Content was expected, not a {type(content).__name__}")
    if len(content.external_name) > EXTERNAL_NAME_MOST or len(content.language) > LANGUAGE_MOST:
        raise _Useless("its external name or its language is too long")
    try:
        parts.check(content.parts)
        variables.check(content.parts.whole, campaign.variables)
    except Problem as problem:
        raise _Useless("; ".join(map(_sentence, problem.errors)) or str(problem)) from None
    return content


def _sentence(error: FieldError) -> str:
    return f"{error.pointer}: {error.message}"


def _keep(claim: Claim, campaign_id: UUID, content: Content) -> None:
    with transaction.atomic():
        hold(claim)
        campaign = moves.locked(campaign_id)
        if campaign.state in (S.MATERIALISING, S.PAUSED):
            Campaign.objects.filter(pk=campaign_id).update(content=content.as_json())
            errands.leave(campaign, errands.MATERIALISE)


def _give_up(claim: Claim, campaign_id: UUID, why: str) -> None:
    with transaction.atomic():
        hold(claim)
        campaign = moves.locked(campaign_id)
        if campaign.state in moves.starts(S.FAILED):
            endings.fail(campaign, why)

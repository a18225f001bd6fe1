"""The job `tenants.move`: phase after phase, a stretch at a time."""

from jobs.outcomes import Outcome, Snooze
from jobs.retry import RetryPolicy
from jobs.steps import Claim

POLICY = RetryPolicy(attempts=12, base=2.0, cap=600.0)


def run(claim: Claim) -> Outcome:
    """The job `tenants.move`."""
    return Snooze(60.0, "not yet")

"""What operators do to sign-ups: let one go on, or undo it."""

from dataclasses import replace

from jobs import acts
from jobs.states import CANCELLABLE
from onboarding.models import PendingOnboarding

_QUEUE = "onboarding"

SIGN_UPS = (
    acts.replay(
        _QUEUE,
        PendingOnboarding,
        name="resume",
        label="Resume",
        permission="resume_onboarding",
        done="resumed",
        means="It goes on where it failed, with a new budget of attempts: each step looks first at"
        " what is there.",
    ),
    acts.retry(_QUEUE),
    replace(
        acts.discard(_QUEUE),
        name="undo",
        label="Undo",
        permission="undo_onboarding",
        done="being undone",
        means="The sign-up is given up for good. What its steps made is taken away, the last one"
        " first: its schema or rows, its files, its keys and its people; then its address is free"
        " for somebody else. Whoever signed up sees that it was cancelled.",
        fits=lambda sign_up: sign_up.state in CANCELLABLE,
    ),
)

"""An endpoint that answers 410, with a backlog."""

from collections import Counter

from tests.chaos.conftest import until
from tests.webhooks.serving import serving
from webhooks import tending
from webhooks.models import Endpoint


def test_410_to_a_backlog_costs_one_dead_letter_and_no_more_requests_than_were_under_way(hooks):
    # What is told of it is not told to it.
    hook = hooks.endpoint("status", 410, event_types=["invoice.*"])
    for n in range(60):
        hooks.publish(n=n)
    with serving("deliveries", "jobs"):
        rows = Endpoint.objects.using("operator").filter(pk=hook.endpoint.pk)
        until(lambda: rows.filter(disabled_reason="gone").exists(), 15)
        until(lambda: "processing" not in hook.states, 10)
    tending.tend()  # As each minute: what was put aside meanwhile is held.
    assert Counter(hook.states) == {"held": 59, "dead_letter": 1}
    assert len(hook.seen) <= 16  # An endpoint's window.

"""Switches that cross: what is discarded stays so; what slipped by is put right, however late."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError, connections, transaction

from jobs.models import Job
from tenants.context import tenant_context
from tests.chaos.conftest import until
from tests.people import tenant_key
from tests.webhooks.hooks import draining
from tests.webhooks.serving import serving
from tests.webhooks.test_endpoints import Api
from tests.webhooks.test_held import force, in_chunks_of, path
from webhooks import moving, tending
from webhooks.models import Delivery, Endpoint


@pytest.fixture
def api(client, tenant):
    return Api(client, tenant_key(tenant))


def waits_for_a_lock(superuser, table):
    """Whether some statement over this table waits for another transaction."""
    statement = """select exists (select from pg_stat_activity where wait_event_type = 'Lock'
      and datname = current_database() and query ~ %s)"""
    return superuser.execute(statement, [table]).fetchone()[0]


def test_what_was_discarded_is_never_released_by_an_older_job(hooks, api, monkeypatch):
    hook = hooks.endpoint()
    api.send("post", path(hook, "/disable"))
    for n in range(7):
        hooks.publish(n=n)
    with in_chunks_of(2, monkeypatch):
        api.send("post", path(hook, "/enable"))
        api.send("post", path(hook, "/disable"))
        body = {"held": "discard", "reason": "a load test"}
        api.send("post", path(hook, "/enable"), body)
        jobs = Job.objects.using("operator").filter(tenant_id=hooks.tenant.pk)
        release, others = jobs.filter(args__move="release"), jobs.exclude(args__move="release")
        others.update(state="held")
        with serving("jobs"):  # The older one has the field to itself.
            until(lambda: release.get().state == "succeeded", 10)
        with draining():
            time.sleep(0.3)  # Nothing happens, and that takes a while.
        assert hook.seen == []
        others.filter(state="held").update(state="pending")
        with serving("jobs"):
            until(lambda: hook.states == ["cancelled"] * 7, 10)


def test_what_was_discarded_is_not_sent_before_it_is_cancelled(hooks, api, monkeypatch):
    """Not all of it was held yet when the endpoint was enabled again."""
    hook = hooks.endpoint()
    for n in range(6):
        hooks.publish(n=n)
    with in_chunks_of(2, monkeypatch):
        api.send("post", path(hook, "/disable"))
        body = {"held": "discard", "reason": "a load test"}
        api.send("post", path(hook, "/enable"), body)
        assert hook.states.count("cancelled") == 2
        hooks.publish(n=6)
        with draining():
            until(lambda: "succeeded" in hook.states, 10)
        with serving("jobs"):
            until(lambda: hook.states == ["cancelled"] * 6 + ["succeeded"], 10)
    assert hook.numbers == [6]
    # All is done, and what is replayed later is sent.
    endpoint = Endpoint.objects.using("operator").get(pk=hook.endpoint.pk)
    assert endpoint.discarded_until is None


def test_what_was_discarded_on_its_way_is_cancelled_when_it_comes_back(hooks, api):
    hook = hooks.endpoint()
    hooks.publish(n=1)
    api.send("post", path(hook, "/disable"))
    force(hook, state="processing")
    hooks.publish(n=2)
    body = {"held": "discard", "reason": "a load test"}
    api.send("post", path(hook, "/enable"), body)
    assert hook.states == ["processing", "cancelled"]
    Delivery.objects.using("operator").filter(state="processing").update(state="failed")
    assert tending.tend().discarded == 1
    assert hook.states == ["cancelled"] * 2


def test_a_job_waits_for_the_switch_that_is_under_way(hooks, api, superuser):
    """It reads the endpoint under its lock: what was enabled meanwhile is not held."""
    hook = hooks.endpoint()
    api.send("post", path(hook, "/disable"))
    hooks.publish(n=1)
    force(hook, state="pending")
    ended = []

    def hold():
        with tenant_context(hooks.tenant.ref):
            ended.append(moving.finish(hook.endpoint.pk, moving.Move.HOLD))
        connections.close_all()

    with transaction.atomic(using="operator"):
        hook.update(disabled_at=None, disabled_reason="")
        thread = threading.Thread(target=hold)
        thread.start()
        until(lambda: waits_for_a_lock(superuser, "webhooks_endpoint"), 10)
        assert ended == []
    thread.join()
    assert (ended, hook.states) == ([0], ["pending"])


def test_what_an_ordered_endpoint_holds_is_released_however_late_beat_comes(hooks, api):
    """Its publisher waited for the endpoint while that was enabled, having seen it disabled."""
    hook = hooks.endpoint(ordered=True)
    api.send("post", path(hook, "/disable"))
    hooks.publish(n=0)
    api.send("post", path(hook, "/enable"))
    hooks.publish(n=1)
    force(hook, state="held")
    hook.update(updated_at=datetime.now(UTC) - timedelta(days=2))
    assert tending.waiting()["unreleased"] == 1
    assert tending.tend().released == 1
    with draining():
        until(lambda: hook.states == ["succeeded"] * 2, 10)
    assert hook.numbers == [0, 1]


@pytest.mark.parametrize("state", ["pending", "failed", "held"])
def test_what_a_deleted_endpoint_has_left_is_cancelled_however_late_beat_comes(hooks, api, state):
    hook = hooks.endpoint()
    hooks.publish(n=0)
    api.send("delete", path(hook))
    force(hook, state=state, finished_at=None)
    hook.update(deleted_at=datetime.now(UTC) - timedelta(days=30))
    assert tending.tend().cancelled == 1
    assert hook.states == ["cancelled"]


def test_one_endpoint_that_cannot_be_tended_keeps_no_other_waiting(hooks, api, monkeypatch):
    broken, well = hooks.endpoint(), hooks.endpoint()
    hooks.publish(n=1)
    for hook in (broken, well):
        force(hook, state="held")
    finish = moving.finish

    def fails(endpoint_id, move, **bounds):
        if endpoint_id == broken.endpoint.pk:
            raise OperationalError("it broke")
        return finish(endpoint_id, move, **bounds)

    monkeypatch.setattr(moving, "finish", fails)
    done = tending.tend()
    assert (done.errors, done.released) == (1, 1)
    assert (broken.states, well.states) == (["held"], ["pending"])


def test_two_runs_do_not_tend_at_once(hooks, api):
    hook = hooks.endpoint()
    hooks.publish(n=1)
    force(hook, state="held")
    with tending._alone() as alone:
        assert alone
        assert tending.tend().released == 0
    assert tending.tend().released == 1


def test_a_million_held_deliveries_are_looked_at_by_their_lanes(hooks, api, operator):
    """A step of the index for each lane: what is held costs the look nothing."""
    hook = hooks.endpoint()
    operator.execute("set enable_seqscan = off")
    statement = tending._UNRELEASED.format(keyed=tending._KEYED)
    plan = "\n".join(row[0] for row in operator.execute(f"explain {statement}"))
    assert plan.count("delivery_held") == 2
    assert "Seq Scan" not in plan
    assert hook.states == []

"""What goes wrong elsewhere, and does not here: a test for each, by the name of the wrong.

Some have theirs where the thing is built. Held events that vanish: test_held. Auto-disable that
never fires, operational events that loop: test_operational. Redirects followed, 3xx as success, 429
never tried again: test_delivery. A recovery that skips rows: test_replaying. Two units for one
overlap: test_endpoints. Certificates, hosts and addresses: test_ssrf, test_http.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time

from django.db import connections, transaction

from config.redis import client
from jobs.models import Lane
from tenants.context import tenant_context
from tests.chaos.conftest import open_yard, until
from tests.conftest import ROOT, child_environment
from tests.people import tenant_key
from tests.webhooks.hooks import attempts_of, bury, came_to, draining, letter_of
from tests.webhooks.test_endpoints import Api
from webhooks.models import Delivery, Event
from webhooks.services import publish

# ---- Published, and not lost; undone, and not sent ----


def test_an_event_whose_publisher_is_killed_after_the_commit_is_not_lost(hooks):
    hook = hooks.endpoint()
    publisher = f"""
        import os, signal, django
        django.setup()
        from django.db import transaction
        from tenants.context import TenantRef, tenant_context
        from webhooks.services import publish
        with tenant_context(TenantRef({hooks.tenant.pk}, "pool")):
            with transaction.atomic():
                publish(tenant_id={hooks.tenant.pk}, type="invoice.paid", payload={{"n": 1}})
                # The last thing before any hint: callbacks run in order.
                transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
                first = transaction.get_connection().run_on_commit
                first.insert(0, first.pop())
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(publisher)], cwd=ROOT, env=child_environment()
    )
    assert ended.returncode == -signal.SIGKILL
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)
    assert hook.numbers == [1]


def test_a_transaction_that_is_rolled_back_fires_nothing(hooks):
    hook = hooks.endpoint()
    with draining():
        with tenant_context(hooks.tenant.ref), transaction.atomic():
            publish(tenant_id=hooks.tenant.pk, type="invoice.paid", payload={"n": 1})
            transaction.set_rollback(True)
        hooks.publish(n=2)
        until(lambda: hook.states == ["succeeded"], 10)
    assert hook.numbers == [2]
    assert Event.objects.using("operator").filter(tenant_id=hooks.tenant.pk).count() == 1


def test_redis_may_forget_everything_and_be_away_and_nothing_hangs(hooks, valkey):
    hook = hooks.endpoint()
    with draining():
        hooks.publish(n=1)
        client().flushall()
        valkey.stop()
        hooks.publish(n=2)
        until(lambda: hook.states == ["succeeded"] * 2, 10)
        valkey.start()
        hooks.publish(n=3)
        until(lambda: hook.states == ["succeeded"] * 3, 10)
    assert sorted(hook.numbers) == [1, 2, 3]


def test_a_drainer_killed_in_mid_request_leaves_no_delivery_in_limbo(hooks, tmp_path):
    with open_yard(tmp_path) as yard:
        hook = hooks.scripted("hang", "ok")
        event = hooks.publish(n=1)
        doomed = yard.drain(wait=False)
        until(lambda: hook.seen, 60, doomed.said())
        doomed.kill()
        bury(doomed.pid)
        with draining():
            until(lambda: hook.states == ["succeeded"], 10)
    assert hook.inbox.counts == {f"evt_{event.pk}": 2}  # Twice, and told apart by nothing.
    assert came_to(hook.delivery) == ["lost", "succeeded"]


# ---- Tried again, as often as promised, and on record ----


def test_a_next_attempt_in_the_past_is_made(hooks):
    hook = hooks.scripted("status/500", "ok")
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["failed"], 10)
    hook.hasten()  # Due since 2020, while no drainer ran.
    client().flushall()
    with draining():
        until(lambda: hook.states == ["succeeded"], 10)


def test_retries_end_and_each_request_has_its_attempt_on_record(hooks):
    hook = hooks.endpoint("status", 500, schedule=[0, 0, 0])
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["dead_letter"], 15)
        time.sleep(0.3)  # Some looks more.
    assert len(hook.seen) == 4
    assert [one.number for one in attempts_of(hook.delivery)] == [1, 2, 3, 4]
    assert letter_of(hook.delivery).reason == "exhausted"


def test_a_retry_needs_no_log_of_the_try_before(hooks):
    hook = hooks.scripted("status/500", "ok")
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["failed"], 10)
        with connections["owner"].cursor() as cursor:
            cursor.execute("delete from jobs_attempt where work_id = %s", [hook.delivery.pk])
        hook.hasten()
        until(lambda: hook.states == ["succeeded"], 10)
    assert [one.number for one in attempts_of(hook.delivery)] == [2]


def test_a_connection_that_cannot_be_made_is_tried_again(hooks, free_port, settings):
    settings.WEBHOOK_OPEN_DESTINATIONS = [
        *settings.WEBHOOK_OPEN_DESTINATIONS,
        ("127.0.0.1", free_port),
    ]
    hook = hooks.at(hooks.receiver.new(), url=f"http://127.0.0.1:{free_port}/")
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["failed"], 10)
        hook.update(url=hook.inbox.url)
        hook.hasten()
        until(lambda: hook.states == ["succeeded"], 10)
    assert came_to(hook.delivery) == ["retry", "succeeded"]


def test_a_connection_that_fails_hides_no_second_post(hooks):
    refused = hooks.endpoint(port="reset")
    trapped = hooks.endpoint("trap")
    before = hooks.receiver.connections("reset")
    with draining():
        hooks.publish(n=1)
        until(lambda: trapped.states == ["succeeded"], 10)
        hooks.publish(n=2)  # On the connection that closes as soon as this is read.
        until(lambda: trapped.states == ["succeeded", "failed"], 10)
        until(lambda: refused.states == ["failed", "failed"], 10)
    assert trapped.numbers == [1, 2]
    assert hooks.receiver.connections("reset") - before == 2
    assert [len(attempts_of(one)) for one in refused.deliveries] == [1, 1]


def test_retries_do_not_starve_first_tries(hooks):
    hook = hooks.endpoint("slow", 0.05)
    for n in range(60):
        hooks.publish(n=n)
    Delivery.objects.using("operator").filter(endpoint_id=hook.endpoint.pk).update(priority=1)
    hooks.publish(n=1000)
    with draining(lane_window=2):
        until(lambda: 1000 in hook.numbers, 10)
        assert len(hook.numbers) < 10


# ---- What one does to the others ----


def test_one_bad_endpoint_slows_no_healthy_one(hooks, other_tenant):
    bad = hooks.endpoint("hang", timeout=3)
    near, far = hooks.endpoint(), hooks.endpoint(tenant=other_tenant)
    for n in range(30):
        hooks.publish(n=n)
    hooks.publish(tenant=other_tenant, n=0)
    with draining():
        until(lambda: near.states == ["succeeded"] * 30, 3)
        until(lambda: far.states == ["succeeded"], 3)
        assert 0 < bad.states.count("processing") <= 16
    assert "succeeded" not in bad.states


def test_an_untimed_body_pins_no_slot_and_is_not_sent_twice_meanwhile(hooks):
    dripping = hooks.endpoint("drip-body", timeout=1)
    endless = hooks.endpoint("endless", timeout=1)
    healthy = hooks.endpoint()
    hooks.publish()
    with draining(slots=1, destination_share=1.0):
        until(lambda: healthy.states == ["succeeded"], 10)
        until(lambda: dripping.states == ["failed"] and endless.states == ["succeeded"], 10)
    assert [len(one.seen) for one in (dripping, endless, healthy)] == [1, 1, 1]


def test_a_zip_bomb_costs_no_memory(hooks):
    hook = hooks.endpoint("gzip-bomb", 128)
    before = resident()
    hooks.publish()
    with draining():
        until(lambda: hook.states == ["succeeded"], 20)
        assert resident() - before < 32
    assert attempts_of(hook.delivery)[0].response["truncated"]


def resident() -> float:
    """This process's memory, in MiB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_rate_limit_has_an_effect_over_all_drainers(hooks, client):
    """As the API takes it: what the endpoint says, its lane says, and the claim obeys."""
    hook = hooks.endpoint()
    api = Api(client, tenant_key(hooks.tenant))
    assert api.change(f"ep_{hook.endpoint.pk}", rate=5).json()["rate"] == 5
    for n in range(12):
        hooks.publish(n=n)
    with draining(drainers=2):
        until(lambda: hook.states == ["succeeded"] * 12, 15)
    moments = [request["at"] for request in hook.seen]
    assert len(moments) == 12
    assert moments[-1] - moments[0] >= 1.2  # Five at once, and the other seven one by one.


def test_a_failing_endpoint_is_left_alone_and_comes_back_when_it_is_well(hooks):
    hook = hooks.scripted(*["status/500"] * 10, "ok", max_in_flight=1)
    for n in range(14):
        hooks.publish(n=n)
    with draining(lane_window=1):
        until(lambda: hook.lane and hook.lane.trips == 1, 15)
        time.sleep(0.3)  # Some looks, in which nothing may start.
        assert len(hook.seen) == 10
        Lane.objects.using("operator").filter(key=hook.endpoint.lane).update(
            paused_until="2020-01-01T00:00Z", opened_until="2020-01-01T00:00Z"
        )
        until(lambda: hook.states.count("succeeded") == 4, 10)
        until(lambda: hook.lane.trips == 0, 10)

"""webhooks.services.publish: an event stands or falls with the deed that it tells of."""

import threading
import time
from datetime import UTC, datetime
from uuid import RFC_4122

import pytest
from django.db import ProgrammingError, connection, connections, transaction
from django.db.transaction import TransactionManagementError

from jobs import hints
from tenants.context import PLATFORM, PLATFORM_ID, tenant_context
from tests.webhooks.ears import deliveries_of, listen, publish_in
from tests.webhooks.published import (
    asked,
    events_and_deliveries,
    events_of,
    statements,
    told_to_the_platform,
)
from webhooks import services
from webhooks.errors import EventTooLarge, InvalidEvent
from webhooks.models import Delivery, Event
from webhooks.services import NewEvent, publish, publish_many

# ---- One event, in the caller's transaction ----


def test_it_writes_the_event(tenant, operator):
    event = publish_in(tenant, idempotency_key="k1")
    assert event.pk
    assert events_of(operator, tenant) == [("a.b", {"n": 1}, "k1")]


class Undone(Exception):
    pass


def test_a_deed_that_is_rolled_back_publishes_nothing(tenant, operator, monkeypatch):
    hinted = []
    monkeypatch.setattr(hints, "send", lambda *said: hinted.append(said))
    listen(tenant.ref)

    def deed():
        with tenant_context(tenant.ref), transaction.atomic():
            publish(tenant_id=tenant.pk, type="a.b", payload={})
            publish_many(tenant_id=tenant.pk, events=[NewEvent("a.b", {})])
            publish(tenant_id=tenant.pk, type="tenant.ready", payload={})
            raise Undone

    with pytest.raises(Undone):
        deed()
    assert events_and_deliveries(operator, tenant) == (0, 0, 0)
    assert told_to_the_platform(operator, tenant) == []
    assert hinted == []


def test_it_refuses_to_publish_outside_a_transaction(tenant, operator):
    for publishing in (
        lambda: publish(tenant_id=tenant.pk, type="a.b", payload={}),
        lambda: publish_many(tenant_id=tenant.pk, events=[NewEvent("a.b", {})]),
    ):
        with pytest.raises(TransactionManagementError), tenant_context(tenant.ref):
            publishing()
    assert events_of(operator, tenant) == []


def test_it_publishes_once_for_one_key(tenant, operator):
    listen(tenant.ref)
    assert publish_in(tenant, idempotency_key="k1") is not None
    assert publish_in(tenant, idempotency_key="k1", payload={"n": 2}) is None
    assert events_of(operator, tenant) == [("a.b", {"n": 1}, "k1")]
    assert events_and_deliveries(operator, tenant) == (1, 1, 1)


def test_the_keys_of_two_tenants_are_apart(tenant, other_tenant, operator):
    assert publish_in(tenant, idempotency_key="k1") is not None
    assert publish_in(other_tenant, idempotency_key="k1") is not None


def test_without_a_key_each_call_is_an_event(tenant, operator):
    publish_in(tenant)
    publish_in(tenant)
    assert len(events_of(operator, tenant)) == 2


def test_it_hints_after_the_commit_and_only_when_somebody_listens(tenant, monkeypatch):
    hinted = []
    monkeypatch.setattr(hints, "send", lambda *said: hinted.append(said))
    publish_in(tenant)
    assert hinted == []
    listen(tenant.ref)
    with tenant_context(tenant.ref), transaction.atomic():
        publish(tenant_id=tenant.pk, type="a.b", payload={})
        assert hinted == []
    assert hinted == [("deliveries", tenant.pk)]


def test_it_is_one_statement(tenant):
    for _ in range(3):
        listen(tenant.ref, ordered=True)
    publish_in(tenant)  # The catalogue is asked once in a while.
    with tenant_context(tenant.ref), transaction.atomic(), asked() as captured:
        publish(tenant_id=tenant.pk, type="a.b", payload={})
    assert len(statements(captured)) == 1


@pytest.mark.parametrize(
    ("type", "payload", "pointer", "code"),
    [
        ("", {}, "/type", "invalid_format"),
        ("a.", {}, "/type", "invalid_format"),
        ("a..b", {}, "/type", "invalid_format"),
        ("a.*", {}, "/type", "invalid_format"),
        ("a b", {}, "/type", "invalid_format"),
        ("é", {}, "/type", "invalid_format"),
        ("a\n", {}, "/type", "invalid_format"),
        ("a},{b", {}, "/type", "invalid_format"),
        ("a" * 101, {}, "/type", "too_long"),
        ("a.b", {"x": object()}, "/data", "not_json"),
        ("a.b", {1: 2}, "/data", "not_json"),
        ("a.b", {"x": 2**64}, "/data", "not_json"),
        ("a.b", {"x": "\ud800"}, "/data", "not_json"),
        ("a.b", {"x": "a\0b"}, "/data", "control_character"),
    ],
)
def test_it_refuses_what_is_no_event(tenant, operator, type, payload, pointer, code):
    with pytest.raises(InvalidEvent) as refused:
        publish_in(tenant, type=type, payload=payload)
    assert [(error.pointer, error.code) for error in refused.value.errors] == [(pointer, code)]
    assert events_of(operator, tenant) == []


def test_a_backslash_before_u0000_is_no_nul(tenant, operator):
    publish_in(tenant, payload={"x": r"\u0000"})
    assert events_of(operator, tenant)[0][1] == {"x": r"\u0000"}


def test_data_has_at_most_256_kib(tenant, operator):
    room = services.DATA_LIMIT - len('{"x":""}')
    publish_in(tenant, payload={"x": "a" * room})
    with pytest.raises(EventTooLarge):
        publish_in(tenant, payload={"x": "a" * (room + 1)})
    assert len(events_of(operator, tenant)) == 1


# ---- Who hears of it ----


@pytest.mark.parametrize(
    ("filter", "hears"),
    [
        ([], True),
        (["invoice.paid.late"], True),
        (["invoice.*"], True),
        (["invoice.paid.*"], True),
        (["other", "invoice.*"], True),
        (["invoice"], False),
        (["invoice.paid"], False),
        (["invoice.paid.late.*"], False),
        (["inv.*"], False),
        (["other"], False),
    ],
)
def test_an_endpoint_hears_what_its_filter_says(tenant, operator, filter, hears):
    endpoint = listen(tenant.ref, *filter)
    publish_in(tenant, type="invoice.paid.late")
    assert deliveries_of(operator, endpoint) == (["invoice.paid.late"] if hears else [])


def test_a_delivery_has_all_that_the_engine_asks_for(tenant, operator, settings):
    plain, timed = listen(tenant.ref), listen(tenant.ref, schedule=[1, 2])
    publish_in(tenant)
    columns = "d.lane, d.host, d.state, d.priority, d.seq, d.attempts, d.max_attempts, d.test"
    tries = len(settings.SLIPWAY["WEBHOOKS"]["schedule"]) + 1
    for endpoint, most in ((plain, tries), (timed, 3)):
        assert deliveries_of(operator, endpoint, columns) == [
            (f"endpoint:{endpoint.pk}", endpoint.host, "pending", 0, None, 0, most, False)
        ]


def test_a_disabled_endpoint_is_kept_its_events_and_a_deleted_one_is_not(tenant, operator):
    now = datetime.now(UTC)
    disabled = listen(tenant.ref, disabled_at=now, disabled_reason="gone", ordered=True)
    deleted = listen(tenant.ref, deleted_at=now)
    publish_in(tenant)
    assert deliveries_of(operator, disabled, "d.state, d.seq") == [("held", 1)]
    assert deliveries_of(operator, deleted) == []


def test_deliveries_of_a_lane_lie_in_the_order_of_publishing(tenant, operator):
    endpoint = listen(tenant.ref)
    names = [f"n{number}" for number in range(300)]
    with tenant_context(tenant.ref), transaction.atomic():
        publish_many(tenant_id=tenant.pk, events=[NewEvent(name, {}) for name in names])
    assert deliveries_of(operator, endpoint) == names
    for (delivery,) in operator.execute("select id from webhooks_delivery").fetchall():
        assert (delivery.version, delivery.variant) == (7, RFC_4122)


# ---- Ordered endpoints ----


def test_an_ordered_endpoint_numbers_what_it_hears(tenant, operator):
    ordered, plain = listen(tenant.ref, "a.*", ordered=True), listen(tenant.ref)
    publish_in(tenant, type="a.one")
    publish_in(tenant, type="b.two")
    publish_in(tenant, type="a.three")
    assert deliveries_of(operator, ordered, "d.seq, e.type") == [(1, "a.one"), (2, "a.three")]
    assert deliveries_of(operator, plain, "d.seq") == [None] * 3


def in_thread(do):
    """Run `do` in a thread; its connection is closed, and its error raised, by join()."""
    raised = []

    def run():
        try:
            do()
        except BaseException as error:
            raised.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(20)
        assert not thread.is_alive()
        if raised:
            raise raised[0]

    return join


def wait_for_a_lock(operator, many: int = 1) -> None:
    """Until so many publishers wait for another's transaction."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        (waiting,) = operator.execute(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
            " and datname = current_database() and query like '%with given%'"
        ).fetchone()
        if waiting >= many:
            return
        time.sleep(0.01)
    raise AssertionError("nobody waits")


@pytest.mark.parametrize("commits", [True, False])
def test_two_publishers_to_one_ordered_endpoint_keep_the_order_of_their_commits(
    tenant, superuser, operator, commits
):
    endpoint = listen(tenant.ref, ordered=True)
    publish_in(tenant, type="zeroth")

    def second():
        publish_in(tenant, type="second")

    with tenant_context(tenant.ref), transaction.atomic():
        publish(tenant_id=tenant.pk, type="first", payload={})
        join = in_thread(second)
        wait_for_a_lock(superuser)
        transaction.set_rollback(not commits)
    join()
    told = deliveries_of(operator, endpoint, "e.type, d.seq")
    # A rolled-back publisher leaves no gap: its number was given back with its transaction.
    expected = [("zeroth", 1), ("first", 2), ("second", 3)]
    assert told == (expected if commits else [("zeroth", 1), ("second", 2)])


def test_publishers_to_several_ordered_endpoints_do_not_lock_each_other_up(tenant, operator):
    """Each takes the endpoints in the order of their ids, whatever the order of its events."""
    ears = [listen(tenant.ref, f"t{n}", "all", ordered=True) for n in range(4)]
    rounds = 15

    def publisher(order):
        def run():
            for _ in range(rounds):
                with tenant_context(tenant.ref), transaction.atomic():
                    publish_many(tenant_id=tenant.pk, events=[NewEvent(f"t{n}", {}) for n in order])
                    publish(tenant_id=tenant.pk, type="none", payload={})

        return run

    joins = [in_thread(publisher(order)) for order in (range(4), range(3, -1, -1), (2, 0, 3, 1))]
    for join in joins:
        join()
    for ear in ears:
        assert sorted(deliveries_of(operator, ear, "d.seq")) == list(range(1, 3 * rounds + 1))


# ---- Tenants apart ----


def test_it_publishes_for_no_other_tenant(tenant, other_tenant, operator):
    listen(other_tenant.ref)
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        tenant_context(tenant.ref),
        transaction.atomic(),
    ):
        publish(tenant_id=other_tenant.pk, type="a.b", payload={})
    assert events_and_deliveries(operator, other_tenant) == (0, 0, 0)


def test_what_happens_to_one_tenant_is_told_to_no_other(tenant, other_tenant, operator):
    mine, theirs = listen(tenant.ref), listen(other_tenant.ref)
    platforms = listen(PLATFORM)
    publish_in(tenant)
    assert deliveries_of(operator, mine) == ["a.b"]
    assert deliveries_of(operator, theirs) == []
    assert deliveries_of(operator, platforms) == []


ATTACK = """
insert into webhooks_delivery (id, tenant_id, event_id, endpoint_id, lane, host, max_attempts)
values (gen_random_uuid(), %(tenant)s, %(event)s, %(endpoint)s, 'l', 'h', 1)
"""


@pytest.mark.other_guard
def test_injected_sql_delivers_to_no_endpoint_of_anothers(tenant, other_tenant, operator):
    event, theirs = publish_in(tenant), listen(other_tenant.ref)
    mine = listen(tenant.ref)

    def attack(tenant_id, endpoint):
        with tenant_context(tenant.ref), transaction.atomic():
            values = {"tenant": tenant_id, "event": event.pk, "endpoint": endpoint.pk}
            connection.cursor().execute(ATTACK, values)

    for tenant_id in (tenant.pk, other_tenant.pk, PLATFORM_ID):
        with pytest.raises((ProgrammingError, Exception)) as refused:
            attack(tenant_id, theirs)
        assert "row-level security" in str(refused.value) or "same_tenant" in str(refused.value)
    assert deliveries_of(operator, theirs) == []
    attack(tenant.pk, mine)  # The control: the statement itself is sound.
    assert deliveries_of(operator, mine) == ["a.b"]


def test_a_tenant_reads_its_own_events_alone(tenant, other_tenant):
    listen(tenant.ref)
    publish_in(tenant)
    with tenant_context(other_tenant.ref):
        assert not Event.objects.exists()
        assert not Delivery.objects.exists()
    with tenant_context(tenant.ref):
        assert Event.objects.count() == 1
        assert Delivery.objects.count() == 1

"""Retry now, and cancel by filter: what was tried is tried at once, what never ran is not."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from jobs import lanes, replaying, selection, services
from jobs.errors import ReasonMissing, StaleState
from jobs.models import DeadLetter, Job, Replay
from jobs.selection import Selection
from jobs.states import State
from tenants.models import AuditEntry
from tests.jobs.conftest import fresh
from tests.jobs.test_replaying import WHY, dead_parcels, done, entries, of, progress, start
from tests.people import bearer, tenant_key
from tests.webhooks.letters import Desk, change, kill
from tests.works.models import Parcel, Telegram
from webhooks.models import Delivery

OPERATOR = "operator"
LATER = datetime.now(UTC) + timedelta(hours=9)


def waiting(engine, count=1, *, model=Parcel, state="failed", **columns):
    said = {"state": state, "due_at": LATER, "attempts": 2, "last_error": "HTTP 500"}
    return engine.add(model, count, **{**said, **columns})


def retry(work, queue="parcels", **said):
    services.retry_now(queue=queue, work_id=work.pk, **{**WHY, **said})


# ---- One ----


@pytest.mark.parametrize("state", ["failed", "scheduled"])
def test_what_waits_for_its_next_try_is_tried_at_once(engine, state):
    (work,) = waiting(engine, state=state)
    retry(work)
    assert fresh(work).state == "pending"
    assert fresh(work).due_at <= datetime.now(UTC)
    (claim,) = engine.claim(drainer=engine.drainer())
    assert (claim.id, claim.attempt) == (work.pk, 3)


def test_its_budget_of_attempts_and_its_error_stay(engine):
    (work,) = waiting(engine, max_attempts=3, forgiven=1, losses=1)
    retry(work)
    work = fresh(work)
    assert (work.attempts, work.max_attempts, work.forgiven, work.losses) == (2, 3, 1, 1)
    assert work.last_error == "HTTP 500"


def test_the_audit_trail_says_who_had_it_tried_and_why(engine):
    (work,) = waiting(engine)
    retry(work)
    (entry,) = entries(f"parcels:{work.pk}", "work.retried")
    assert (entry.actor, entry.reason) == tuple(WHY.values())
    assert (entry.before, entry.after) == ({"state": "failed"}, {"state": "pending"})


@pytest.mark.parametrize(
    "state", sorted({*State} - {State.FAILED, State.SCHEDULED}), ids=lambda state: str(state)
)
def test_nothing_else_is_tried(engine, state):
    (work,) = waiting(engine, model=Telegram, state=state)
    with pytest.raises(StaleState):
        retry(work, queue="telegrams")
    assert (fresh(work).state, fresh(work).due_at) == (state, LATER)
    assert not AuditEntry.objects.using(OPERATOR).filter(target=f"telegrams:{work.pk}").exists()


def test_what_never_ran_waits_for_its_time(engine):
    """A campaign's start, made to run before its time, would not come again at its time."""
    (job,) = waiting(engine, model=Job, state="scheduled", kind="act", attempts=0, last_error="")
    with pytest.raises(StaleState):
        retry(job, queue="jobs")
    assert fresh(job).due_at == LATER


def test_a_second_one_finds_nothing_to_do(engine):
    (work,) = waiting(engine)
    retry(work)
    with pytest.raises(StaleState):
        retry(work)
    assert entries(f"parcels:{work.pk}", "work.retried").count() == 1


def test_whoever_asks_must_say_why(engine):
    (work,) = waiting(engine)
    with pytest.raises(ReasonMissing):
        retry(work, reason=" ")
    assert fresh(work).state == "failed"


def test_what_holds_its_lane_back_holds_it_too(engine):
    (work,) = waiting(engine)
    lanes.pause(key=work.lane, tenant_id=work.tenant_id, until=LATER, **WHY)
    retry(work)
    assert engine.claim(drainer=engine.drainer()) == []


# ---- By filter ----


def waits(works, **fields):
    return of(works, states=(State.FAILED, State.SCHEDULED), **fields)


def test_all_that_was_tried_is_tried_at_once_in_the_background(engine):
    tenant = engine.tenant()
    works = waiting(engine, 3, tenant=tenant)
    (never,) = waiting(engine, tenant=tenant, state="scheduled", attempts=0, last_error="")
    found = replaying.preview(waits(works), action=Replay.Action.RETRY, using=OPERATOR)
    assert (found.count, found.left_out) == (3, {"not_tried": 1})
    replay = done(engine, start(waits(works), "retry"))
    assert progress(replay) == ("finished", 3, 3, 1)
    assert {fresh(work).state for work in works} == {"pending"}
    assert fresh(never).state == "scheduled"
    assert entries(f"replay:{replay.pk}", "works.retried").count() == 1


def test_all_that_waits_is_cancelled_where_there_is_nothing_to_undo(engine):
    works = waiting(engine, 2, model=Job, tenant=engine.tenant(), kind="act")
    selected = Selection(queue="jobs", tenant_id=works[0].tenant_id, states=(State.FAILED,))
    assert progress(done(engine, start(selected, "cancel"))) == ("finished", 2, 2, 0)
    assert {(fresh(work).state, fresh(work).finished_at is None) for work in works} == {
        ("cancelled", False)
    }


def test_what_was_begun_is_undone_where_it_can_be_and_the_rest_cancelled(engine):
    tenant = engine.tenant()
    (begun,) = waiting(engine, tenant=tenant)
    (fresh_one,) = engine.add(Parcel, tenant=tenant)
    selected = of([begun], states=(State.FAILED, State.PENDING))
    assert progress(done(engine, start(selected, "cancel"))) == ("finished", 2, 2, 0)
    assert (fresh(begun).state, fresh(fresh_one).state) == ("discarding", "cancelled")


def test_works_are_found_by_what_their_error_says(engine):
    tenant = engine.tenant()
    (meant,) = dead_parcels(engine, 1, tenant=tenant, last_error="Connection REFUSED by 10.0.0.1")
    dead_parcels(engine, 1, tenant=tenant, last_error="HTTP 500")
    found = selection.look(of([meant], error="refused BY"), place="", most=10, using=OPERATOR)
    assert found.ids == [meant.pk]
    wild = of([meant], error="%")
    assert selection.look(wild, place="", most=10, using=OPERATOR).ids == []


def test_the_command_takes_the_words_of_an_error_too(engine):
    tenant = engine.tenant()
    dead_parcels(engine, 1, tenant=tenant, last_error="no route to host")
    dead_parcels(engine, 2, tenant=tenant, last_error="HTTP 500")
    out = StringIO()
    call_command("replay", "parcels", "--error", "No Route", "--dry-run", "--json", stdout=out)
    assert json.loads(out.getvalue())["found"] == 1


# ---- Over the API, as the app role under RLS ----


@pytest.fixture(params=["pooled", "dedicated"])
def desk(request, client, make_tenant):
    return Desk(client, make_tenant(request.param))


def waiting_delivery(desk) -> Delivery:
    desk.endpoint()
    (delivery,) = desk.deliveries(desk.publish())
    return change(delivery, state="failed", attempts=1, last_error="HTTP 500", due_at=LATER)


def test_a_tenant_has_its_own_waiting_delivery_tried_at_once(desk):
    delivery = waiting_delivery(desk)
    answer = desk.post(f"deliveries/dlv_{delivery.pk}/retry", reason="We are back.")
    assert answer.status_code == 202
    assert answer.json()["state"] == "pending"
    assert fresh(delivery).due_at <= datetime.now(UTC)
    (entry,) = entries(f"deliveries:{delivery.pk}", "work.retried")
    assert entry.actor.startswith("api_key:")
    assert (entry.tenant_id, entry.reason) == (desk.owner.pk, "We are back.")


def test_a_delivery_that_waits_for_no_other_try_is_refused(desk):
    delivery = kill(waiting_delivery(desk))
    answer = desk.post(f"deliveries/dlv_{delivery.pk}/retry", reason="We are back.")
    assert (answer.status_code, answer.json()["code"]) == (409, "cannot_retry")
    assert answer.json()["detail"] == "It is dead_letter."
    assert fresh(delivery).state == "dead_letter"
    assert DeadLetter.objects.using(OPERATOR).filter(work_id=delivery.pk, resolved_at=None).exists()


def test_nobody_has_another_tenants_delivery_tried(desk, client, other_tenant):
    delivery = waiting_delivery(desk)
    stranger = Desk(client, other_tenant)
    answer = stranger.post(f"deliveries/dlv_{delivery.pk}/retry", reason="Mine, surely.")
    assert (answer.status_code, answer.json()["code"]) == (404, "delivery_not_found")
    assert fresh(delivery).state == "failed"


def test_a_key_that_may_only_read_is_refused_and_a_reason_is_asked_for(desk):
    delivery = waiting_delivery(desk)
    path = f"/v1/deliveries/dlv_{delivery.pk}/retry"
    reader = bearer(tenant_key(desk.owner, "deliveries:read"))
    refused = desk.client.post(path, {"reason": "x"}, "application/json", headers=reader)
    assert refused.status_code == 403
    assert desk.post(path.removeprefix("/v1/")).status_code == 400
    assert fresh(delivery).state == "failed"

"""Replays over the API: counted first, done in the background, and only what is missing."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError

from jobs import replaying, services
from jobs.management.resolution import ResolutionCommand
from jobs.models import Job, Replay
from jobs.outcomes import Fail
from tests.jobs.conftest import Engine, withdraw_everything
from tests.people import bearer, tenant_key
from tests.webhooks.letters import OPERATOR, Desk, change, fresh, outside
from webhooks.models import Delivery, Endpoint, Payload

WHY = "the receiver is well again"
LONG_AGO = "2020-01-01T00:00:00Z"


@pytest.fixture
def desk(client, tenant):
    return Desk(client, tenant)


@pytest.fixture
def engine():
    withdraw_everything()
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()


def run(engine, answer):
    """Do the job of a replay that was asked for; how the API shows it then."""
    assert answer.status_code == 202, answer.json()
    replay = Replay.objects.using(OPERATOR).get(pk=answer.json()["id"].removeprefix("rpl_"))
    job = Job.objects.using(OPERATOR).get(args={"replay": str(replay.pk)})
    (claim,) = [c for c in engine.claim("jobs", drainer=engine.drainer()) if c.id == job.pk]
    engine.settle((claim, replaying.run(claim)))
    return replay


def finished(desk, engine, **wish):
    answer = desk.post("replays", reason=WHY, **wish)
    run(engine, answer)
    return desk.client.get(answer["Location"], headers=desk.headers).json()


def states(deliveries):
    return [fresh(delivery).state for delivery in deliveries]


def errors_of(answer):
    assert answer.status_code == 400, answer.json()
    return {error["pointer"] for error in answer.json()["errors"]}


def test_a_dry_run_counts_shows_a_sample_and_changes_nothing(desk):
    endpoint = desk.endpoint()
    dead = desk.dead(7)
    answer = desk.post("replays", dry_run=True)
    assert answer.status_code == 200
    assert answer.json()["count"] == 7
    sample = answer.json()["sample"]
    assert [one["id"] for one in sample] == [outside("dlv", one) for one in dead[:5]]
    assert sample[0]["endpoint_id"] == outside("ep", endpoint)
    assert sample[0]["last_error"] == "HTTP 500"
    assert set(states(dead)) == {"dead_letter"}
    assert not Replay.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk).exists()


def test_all_dead_deliveries_are_sent_again_in_the_background_as_the_app_role(desk, engine):
    desk.endpoint()
    dead = desk.dead(3)
    answer = desk.post("replays", reason=WHY)
    assert answer["Location"] == f"/v1/replays/{answer.json()['id']}"
    assert (answer.json()["status"], answer.json()["total"]) == ("pending", 3)
    assert set(states(dead)) == {"dead_letter"}
    replay = run(engine, answer)
    assert not replay.by_operator  # So that all it did, it did under row-level security.
    shown = desk.get(f"replays/{answer.json()['id']}").json()
    assert [shown[name] for name in ("status", "total", "done", "skipped")] == ["finished", 3, 3, 0]
    assert set(states(dead)) == {"pending"}
    assert {fresh(one).priority for one in dead} == {2}


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_only_what_the_filter_finds_is_moved(desk, engine, action):
    meant = desk.endpoint(event_types=["invoice.paid"])
    desk.endpoint(event_types=["user.*"])
    (paid,), (joined,) = desk.dead(), desk.dead(type="user.joined")
    wish = {"endpoint_id": outside("ep", meant), "event_type": "invoice.paid"}
    shown = finished(desk, engine, action=action, **wish)
    assert shown["done"] == 1
    after = {"replay": "pending", "discard": "discarding"}[action]
    assert states([paid, joined]) == [after, "dead_letter"]


def test_everything_since_a_time_is_sent_again_succeeded_or_not(desk, engine):
    desk.endpoint()
    early, late, dead = desk.dead(3)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    change(early, state="succeeded", created_at=hour_ago)
    change(late, state="succeeded")
    since = (hour_ago + timedelta(minutes=1)).isoformat()
    shown = finished(desk, engine, since=since, states=["dead_letter", "succeeded"])
    assert shown["done"] == 2
    assert states([early, late, dead]) == ["succeeded", "pending", "pending"]


def test_what_a_disabled_endpoint_would_be_sent_is_skipped_and_said_so(desk, engine):
    endpoint = desk.endpoint()
    dead = desk.dead(2)
    Endpoint.objects.using(OPERATOR).filter(pk=endpoint.pk).update(disabled_at=datetime.now(UTC))
    shown = finished(desk, engine)
    assert (shown["done"], shown["skipped"]) == (0, 2)
    assert set(states(dead)) == {"dead_letter"}


def test_what_is_held_can_be_given_up(desk, engine):
    desk.endpoint(disabled_at=datetime.now(UTC))
    held = desk.deliveries(desk.publish())
    assert states(held) == ["held"]
    assert finished(desk, engine, action="discard", states=["held"])["done"] == 1
    assert states(held) == ["cancelled"]


def test_named_deliveries_alone_are_moved(desk, engine):
    desk.endpoint()
    dead = desk.dead(3)
    assert finished(desk, engine, delivery_ids=[outside("dlv", dead[1])])["total"] == 1
    assert states(dead) == ["dead_letter", "pending", "dead_letter"]


def test_a_replay_is_cancelled_and_what_was_done_stays_done(desk, engine):
    desk.endpoint()
    dead = desk.dead(2)
    answer = desk.post("replays", reason=WHY)
    path = f"replays/{answer.json()['id']}"
    assert desk.delete(path).status_code == 204
    assert desk.get(path).json()["status"] == "cancelled"
    run(engine, answer)
    assert set(states(dead)) == {"dead_letter"}
    again = desk.delete(path)
    assert (again.status_code, again.json()["code"]) == (409, "replay_ended")


def test_a_replay_whose_job_is_dead_says_so_until_that_is_replayed(desk, engine):
    desk.endpoint()
    dead = desk.dead(2)
    answer = desk.post("replays", reason=WHY)
    path = f"replays/{answer.json()['id']}"
    job = Job.objects.using(OPERATOR).get(tenant_id=desk.owner.pk, kind="jobs.resolve")
    (claim,) = [c for c in engine.claim("jobs", drainer=engine.drainer()) if c.id == job.pk]
    engine.settle((claim, Fail("a bug")))
    assert desk.get(path).json()["status"] == "stuck"
    assert [one["status"] for one in desk.get("replays").json()["data"]] == ["stuck"]
    with pytest.raises(CommandError, match="stuck"):
        ResolutionCommand()._wait([Replay.objects.using(OPERATOR).get(pk=job.pk)], 2, {"json": 1})
    services.replay_work(queue="jobs", work_id=job.pk, actor="operator:1", reason="mended")
    assert desk.get(path).json()["status"] == "pending"
    run(engine, answer)
    assert (desk.get(path).json()["status"], set(states(dead))) == ("finished", {"pending"})


def test_replays_are_listed_newest_first(desk):
    desk.endpoint()
    desk.dead()
    ids = [desk.post("replays", reason=WHY).json()["id"] for _ in range(3)]
    first = desk.get("replays?limit=2").json()
    assert [one["id"] for one in first["data"]] == [ids[2], ids[1]]
    then = desk.get(f"replays?limit=2&cursor={first['next_cursor']}").json()
    assert [one["id"] for one in then["data"]] == [ids[0]]


@pytest.mark.parametrize(
    ("wish", "pointer"),
    [
        ({"reason": " "}, "/reason"),
        ({"states": ["processing"]}, "/states/0"),
        ({"states": ["succeeded"], "action": "discard"}, "/states/0"),
        ({"states": ["lost"]}, "/states/0"),
        ({"endpoint_id": "ep_1"}, "/endpoint_id"),
        ({"delivery_ids": ["evt_1"]}, "/delivery_ids/0"),
        ({"dead_reason": "failed", "states": ["succeeded"]}, "/dead_reason"),
        ({"missing": True}, "/since"),
        ({"missing": True, "since": LONG_AGO, "action": "discard"}, "/action"),
        ({"since": "2026-01-01T00:00:00"}, "/since"),
        ({"colour": "red"}, "/colour"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_begun(desk, wish, pointer):
    assert errors_of(desk.post("replays", **{"reason": WHY, **wish})) == {pointer}
    assert desk.get("replays").json()["data"] == []


def test_another_tenants_deliveries_and_replays_are_out_of_reach(
    desk, engine, client, other_tenant
):
    desk.endpoint()
    dead = desk.dead(2)
    stranger = Desk(client, other_tenant)
    named = {"delivery_ids": [outside("dlv", dead[0])]}
    assert stranger.post("replays", dry_run=True, **named).json()["count"] == 0
    assert finished(stranger, engine, **named)["done"] == 0
    mine = desk.post("replays", reason=WHY).json()["id"]
    assert stranger.get(f"replays/{mine}").status_code == 404
    assert stranger.delete(f"replays/{mine}").status_code == 404
    assert set(states(dead)) == {"dead_letter"}


def test_a_key_that_may_read_may_not_begin_one(desk, tenant):
    desk.headers = bearer(tenant_key(tenant, "deliveries:read"))
    assert desk.post("replays", reason=WHY).json()["code"] == "missing_scope"
    assert desk.get("replays").status_code == 200


# ---- Only what is missing ----


def missing(desk, engine, **wish):
    return finished(desk, engine, missing=True, **({"since": LONG_AGO} | wish))


def test_a_new_endpoint_is_told_what_was_published_before_it_was_there(desk, engine):
    old = desk.endpoint()
    events = [desk.publish(n=n) for n in range(3)]
    new = desk.endpoint()
    counted = desk.post("replays", missing=True, since=LONG_AGO, dry_run=True).json()
    assert counted["count"] == 3
    assert {one["endpoint_id"] for one in counted["sample"]} == {outside("ep", new)}
    assert counted["sample"][0]["id"] == outside("evt", events[0])
    assert missing(desk, engine)["done"] == 3
    told = [one for one in desk.deliveries() if one.endpoint_id == new.pk]
    assert [one.event_id for one in told] == [event.pk for event in events]  # In order.
    assert {(one.state, one.priority, one.lane) for one in told} == {("pending", 2, new.lane)}
    assert len([one for one in desk.deliveries() if one.endpoint_id == old.pk]) == 3


def test_nothing_is_told_twice(desk, engine):
    desk.endpoint()
    desk.publish()
    assert missing(desk, engine)["total"] == 0
    desk.endpoint()
    assert missing(desk, engine)["done"] == 1
    assert missing(desk, engine)["total"] == 0
    assert len(desk.deliveries()) == 2


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        ([], 3),
        (["invoice.paid"], 1),
        (["invoice.*"], 2),
        (["invoice.paid.*"], 1),
        (["invoice"], 0),
        (["in.*", "user.joined"], 0),
    ],
)
def test_the_filter_decides_as_it_does_when_an_event_is_published(desk, engine, filters, heard):
    types = ("invoice.paid", "invoice.paid.late", "users.joined")
    for name in types:
        desk.publish(name)
    late = desk.endpoint(event_types=filters)
    assert missing(desk, engine)["done"] == heard
    for name in types:
        desk.publish(name)  # The same again, to an endpoint that is there.
    assert len([one for one in desk.deliveries() if one.endpoint_id == late.pk]) == 2 * heard


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@pytest.mark.parametrize("until", [None, "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_the_first_and_the_last_moment_are_times_like_others(desk, since, until):
    desk.publish()
    desk.endpoint()
    bounds = {"since": since, "until": until}
    found = 1 if since.startswith("0001") and not str(until).startswith("0001") else 0
    for missing in (True, False):
        counted = desk.post("replays", missing=missing, dry_run=True, **bounds)
        assert (counted.status_code, counted.json()["count"]) == (200, found * missing)
    assert desk.post("replays", missing=True, reason=WHY, **bounds).status_code == 202


def test_missing_is_bounded_by_time_type_and_endpoint(desk, engine):
    first = desk.publish()
    other = desk.publish("user.joined")
    meant, _ = desk.endpoint(), desk.endpoint()
    after = (first.created_at + timedelta(microseconds=1)).isoformat()
    assert missing(desk, engine, since=after, event_type="invoice.paid")["total"] == 0
    wish = {"endpoint_id": outside("ep", meant), "event_type": "user.joined", "since": after}
    assert missing(desk, engine, **wish)["done"] == 1
    (made,) = desk.deliveries()
    assert (made.event_id, made.endpoint_id) == (other.pk, meant.pk)


def test_an_ordered_endpoint_gets_what_it_missed_in_order_with_numbers_of_its_own(desk, engine):
    events = [desk.publish(n=n) for n in range(3)]
    endpoint = desk.endpoint(ordered=True)
    fourth = desk.publish(n=3)
    missing(desk, engine)
    made = sorted(desk.deliveries(), key=lambda one: one.seq)
    assert [one.event_id for one in made] == [fourth.pk, *(event.pk for event in events)]
    assert [one.seq for one in made] == [1, 2, 3, 4]
    assert fresh(endpoint).next_seq == 5


def test_what_a_disabled_endpoint_missed_is_held_and_a_deleted_one_misses_nothing(desk, engine):
    desk.publish()
    now = datetime.now(UTC)
    desk.endpoint(disabled_at=now)
    desk.endpoint(deleted_at=now)
    assert missing(desk, engine)["done"] == 1
    assert states(desk.deliveries()) == ["held"]


def test_what_is_kept_no_longer_and_what_was_only_a_test_is_not_missing(desk, engine):
    gone = desk.publish()
    Payload.objects.using(OPERATOR).filter(event_id=gone.pk).delete()
    tested = desk.endpoint(event_types=["none"])
    desk.post(f"endpoints/{outside('ep', tested)}/test")
    desk.endpoint()
    assert missing(desk, engine)["total"] == 0


def test_it_makes_the_rest_where_it_was_killed(desk, engine, monkeypatch):
    monkeypatch.setattr(replaying, "CHUNK", 2)
    events = [desk.publish(n=n) for n in range(3)]
    desk.endpoint(), desk.endpoint()
    assert missing(desk, engine)["done"] == 6
    pairs = {(one.event_id, one.endpoint_id) for one in desk.deliveries()}
    assert len(pairs) == 6
    assert {event for event, _ in pairs} == {event.pk for event in events}
    assert Delivery.objects.using(OPERATOR).filter(tenant_id=desk.owner.pk).count() == 6

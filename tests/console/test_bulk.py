"""Everything that a filter finds, across tenants: begun by a click, done in the background."""

import re
import time
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from django.contrib.auth.models import Group
from django.db import connections
from django.test.utils import CaptureQueriesContext

from config.ids import uuid7
from console import bulk
from console.models import Bulk
from jobs.errors import LeaseLost, StaleState
from jobs.models import DeadLetter, Job
from jobs.outcomes import Fail, Snooze, Succeeded
from tenants.models import AuditEntry
from tenants.routers import as_operator
from tests.console.acting import Signed, entries, fresh
from tests.console.operators import letter
from tests.jobs.conftest import Engine, drain, withdraw_everything
from tests.webhooks.ears import listen, publish_in
from tests.works.models import Parcel
from webhooks.models import Delivery

OPERATOR = "operator"
LETTERS = "/console/jobs/deadletter/act/replay/"


@pytest.fixture(scope="module")
def people(django_db_blocker):
    return {role: Signed(role) for role in ("viewer", "operator")}


@pytest.fixture
def operator(people):
    return people["operator"]


@pytest.fixture
def engine():
    withdraw_everything()
    DeadLetter.objects.using(OPERATOR).all().delete()
    taken_apart = Engine()
    yield taken_apart
    taken_apart.close()


def dead(engine, count, *, tenants=1, reason="failed", error="HTTP 503", age=0, **columns):
    """Dead parcels of several tenants, and their letters."""
    said = {"state": "dead_letter", "attempts": 3, "last_error": error}
    made = datetime.now(UTC) - timedelta(hours=age)
    numbers = [engine.tenant() for _ in range(tenants)]
    works = [
        Parcel(tenant_id=numbers[n % tenants], lane="l", max_attempts=3, **(said | columns))
        for n in range(count)
    ]
    Parcel.objects.using(OPERATOR).bulk_create(works)
    letters = [
        DeadLetter(
            id=uuid7(), tenant_id=work.tenant_id, queue="parcels", work_id=work.pk, reason=reason,
            error=error, created_at=made,
        )
        for work in works
    ]  # fmt: skip
    DeadLetter.objects.using(OPERATOR).bulk_create(letters)
    return works


def begin(who, url=f"{LETTERS}?act.all=1&resolved=no", reason="the receiver is well again"):
    """What a click on the confirmation's button begins."""
    answer = who.confirm(url, reason=reason)
    assert answer.status_code == 302, answer.content.decode()[:2000]
    return Bulk.objects.using(OPERATOR).get(pk=answer["Location"].split("/")[-3])


def claim_job(engine, begun):
    (claim,) = [c for c in engine.claim("jobs", drainer=engine.drainer()) if c.id == begun.pk]
    return claim


def done(engine, begun):
    """Run its job to the end; how the row stands then."""
    while begun.finished_at is None:
        claim = claim_job(engine, begun)
        engine.settle((claim, bulk.run(claim)))
        engine.look()
        begun.refresh_from_db(using=OPERATOR)
    return begun


def progress(begun):
    return begun.status, begun.total, begun.done, begun.skipped


def states(works):
    return [fresh(work).state for work in works]


# ---- One way through ----


def test_all_that_is_found_of_all_tenants_is_replayed_in_the_background(engine, operator):
    works = dead(engine, 7, tenants=3)
    assert "Replay all" in operator.html("/console/jobs/deadletter/?resolved=no")
    html = operator.html(f"{LETTERS}?act.all=1&resolved=no")
    assert "<strong>7</strong> dead letters" in html
    begun = begin(operator)
    assert set(states(works)) == {"dead_letter"}  # Asked for, not done.
    assert progress(done(engine, begun)) == ("finished", 7, 7, 0)
    assert set(states(works)) == {"pending"}
    assert not DeadLetter.objects.using(OPERATOR).filter(resolved_at=None).exists()


def test_the_audit_trail_has_the_whole_and_each_work_with_the_request(engine, operator):
    works, reason = dead(engine, 3, tenants=2), f"ticket {uuid7()}"
    begun = done(engine, begin(operator, reason=reason))
    (whole, *each) = entries(reason)
    assert (whole.action, whole.target, whole.actor) == (
        "bulk.begun", f"bulk:{begun.pk}", operator.actor,
    )  # fmt: skip
    assert whole.after["total"] == 3
    assert whole.after["filter"] == "resolved=no"
    assert {one.target for one in each} == {f"parcels:{work.pk}" for work in works}
    assert {(one.action, one.actor, one.tenant_id) for one in each} == {
        ("work.replayed", operator.actor, work.tenant_id) for work in works
    }
    assert {one.request_id for one in each} == {whole.request_id}


def test_the_request_that_begins_it_asks_as_little_for_many_tenants_as_for_one(engine, operator):
    asked = []
    for tenants in (1, 200):
        dead(engine, 200, tenants=tenants)
        operator.get(f"{LETTERS}?act.all=1&resolved=no")  # What is looked up once.
        with CaptureQueriesContext(connections[OPERATOR]) as captured:
            begun = begin(operator)
        asked.append(len(captured))
        bulk.cancel(bulk=begun, actor="operator:1", reason="x")
    assert asked[1] <= asked[0]
    assert asked[1] <= 50  # Of three requests: the page, its token, the click.


def test_discarding_and_retrying_all_that_is_found_work_alike(engine, operator, tenant):
    works = dead(engine, 2)
    begin_url = "/console/jobs/deadletter/act/discard/?act.all=1&resolved=no"
    assert done(engine, begin(operator, begin_url)).done == 2
    assert set(states(works)) == {"discarding"}
    waiting = [
        Job(tenant_id=tenant.pk, lane="l", max_attempts=3, kind="act", state="failed", attempts=1,
            due_at="2100-01-01T00:00Z")
        for _ in range(2)
    ]  # fmt: skip
    Job.objects.using(OPERATOR).bulk_create(waiting)
    url = f"/console/jobs/job/act/retry/?act.all=1&state=failed&tenant={tenant.slug}"
    assert done(engine, begin(operator, url)).done == 2
    assert set(states(waiting)) == {"pending"}


# ---- Exactly what the list shows ----


@pytest.mark.parametrize(
    ("query", "columns"),
    [
        ("reason=poison", {"reason": "poison"}),
        ("q=error:no+route", {"error": "No route to host"}),
        ("age=-hour", {}),
        ("queue=parcels&reason=exhausted", {"reason": "exhausted"}),
    ],
)
def test_nothing_is_moved_that_the_list_does_not_show(engine, operator, query, columns):
    meant = dead(engine, 2, **columns)
    other = dead(engine, 2, reason="overflow", age=30)
    if "age" in query:
        age_letters(other)
    begun = done(engine, begin(operator, f"{LETTERS}?act.all=1&resolved=no&{query}"))
    assert progress(begun) == ("finished", 2, 2, 0)
    assert states(meant) + states(other) == ["pending"] * 2 + ["dead_letter"] * 2


def age_letters(works) -> None:
    """Their letters' ids tell of a day ago."""
    for work in works:
        old = DeadLetter.objects.using(OPERATOR).get(work_id=work.pk)
        number = old.pk.int & ((1 << 80) - 1)
        old.delete(using=OPERATOR)
        old.pk = UUID(int=(int((time.time() - 86400) * 1000) << 80) | number)
        old.save(using=OPERATOR, force_insert=True)


def test_one_tenants_are_found_by_its_slug(engine, operator, tenant, other_tenant):
    said = {"lane": "l", "max_attempts": 3, "state": "dead_letter", "attempts": 1}
    mine, theirs = (Parcel(tenant_id=one.pk, **said) for one in (tenant, other_tenant))
    Parcel.objects.using(OPERATOR).bulk_create([mine, theirs])
    for work in (mine, theirs):
        letter(work, "parcels")
    begun = done(engine, begin(operator, f"{LETTERS}?act.all=1&resolved=no&tenant={tenant.slug}"))
    assert (begun.done, states([mine, theirs])) == (1, ["pending", "dead_letter"])


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("nonsense=1", 404),
        ("reason=nonsense", 200),  # Finds nothing.
        ("tenant=nobody-here", 200),
        ("resolved_at__nonsense=1", 404),
        ("older=nonsense&reason=nonsense", 200),
    ],
)
def test_a_filter_that_cannot_be_read_is_never_taken_for_none(engine, operator, query, status):
    works = dead(engine, 1)
    url = f"{LETTERS}?act.all=1&{query}"
    answer = operator.get(url)
    assert answer.status_code == status
    if status == 200:
        assert "There is nothing here" in answer.content.decode()
    before = Bulk.objects.using(OPERATOR).count()
    operator.post(url, reason="x", once=str(uuid7()))
    assert Bulk.objects.using(OPERATOR).count() == before
    assert states(works) == ["dead_letter"]


def test_the_place_in_a_list_does_not_narrow_what_is_found(engine, operator):
    works = dead(engine, 3)
    html = operator.html(f"{LETTERS}?act.all=1&resolved=no&p=2&act.list=x")
    assert f"<strong>{len(works)}</strong>" in html


def test_whatever_narrows_the_list_narrows_the_act(engine, operator):
    """Or is refused by both: no name in the address means one thing here and another there."""
    works = dead(engine, 3, reason="poison")
    query = f"?resolved=no&reason=poison&error=HTTP+503&tenant={works[0].tenant_id}"
    html = operator.html(f"/console/jobs/deadletter/{query}")
    (url,) = re.findall(r'href="([^"]+)" class="act act-replay"', html)
    assert dict(parse_qsl(urlsplit(unescape(url)).query)) == {
        "act.all": "1", **dict(parse_qsl(query[1:]))
    }  # fmt: skip
    for name in ("id", "all", "list", "act.other"):
        narrowed = f"resolved=no&{name}={works[0].pk}"
        listed = operator.get(f"/console/jobs/deadletter/?{narrowed}")
        if listed.status_code == 200:  # It means nothing to the list, as `all` does to Django's.
            assert listed.content.decode().count("/change/") >= 3
            continue
        assert operator.get(f"{LETTERS}?act.all=1&{narrowed}").status_code == 404
    assert states(works) == ["dead_letter"] * 3


def test_what_succeeded_is_not_sent_again_by_replaying_all(engine, operator, tenant):
    listen(tenant.ref)
    event = publish_in(tenant)
    rows = Delivery.objects.using(OPERATOR).filter(event_id=event.pk)
    rows.update(state="succeeded", attempts=1)
    url = f"/console/webhooks/delivery/act/replay/?act.all=1&tenant={tenant.slug}"
    assert "There is nothing here" in operator.html(url)


def test_what_dies_again_behind_it_is_left_alone(engine, operator, monkeypatch):
    """Else a replay of what fails at once would never end."""
    monkeypatch.setattr(bulk, "CHUNK", 2)
    works = dead(engine, 3)
    begun = begin(operator)
    late = dead(engine, 2)
    assert progress(done(engine, begun)) == ("finished", 3, 3, 0)
    assert states(works + late) == ["pending"] * 3 + ["dead_letter"] * 2


# ---- Clicks, kills, cancels ----


def test_two_clicks_begin_it_once(engine, operator):
    dead(engine, 1)
    once, reason = str(uuid7()), f"ticket {uuid7()}"
    url = f"{LETTERS}?act.all=1&resolved=no"
    first, second = (operator.post(url, reason=reason, once=once) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert Job.objects.using(OPERATOR).filter(pk=once).count() == 1
    assert len(entries(reason)) == 1


def test_looking_begins_nothing_and_neither_does_a_post_without_a_reason(engine, operator):
    dead(engine, 1)
    before = Bulk.objects.using(OPERATOR).count()
    operator.html(f"{LETTERS}?act.all=1&resolved=no")
    answer = operator.confirm(f"{LETTERS}?act.all=1&resolved=no", reason=" ")
    assert answer.status_code == 200
    assert Bulk.objects.using(OPERATOR).count() == before


def test_a_viewer_begins_nothing_though_the_post_is_made_by_hand(engine, people):
    works, viewer = dead(engine, 1), people["viewer"]
    before = Bulk.objects.using(OPERATOR).count()
    url = f"{LETTERS}?act.all=1&resolved=no"
    assert viewer.get(url).status_code == 403
    assert viewer.post(url, reason="x", once=str(uuid7())).status_code == 403
    assert "Replay all" not in viewer.html("/console/jobs/deadletter/?resolved=no")
    assert (Bulk.objects.using(OPERATOR).count(), states(works)) == (before, ["dead_letter"])


def test_it_goes_on_where_it_was_killed(engine, operator, monkeypatch):
    monkeypatch.setattr(bulk, "CHUNK", 2)
    works = dead(engine, 5, tenants=2)
    begun = begin(operator)
    killed = claim_job(engine, begun)
    with as_operator():
        assert not bulk._one_chunk(killed, begun.pk, bulk.read(begun))
    engine.silence(killed.drainer)
    engine.rescue()
    assert sorted(states(works)) == ["dead_letter"] * 3 + ["pending"] * 2
    with pytest.raises(LeaseLost):
        bulk.run(killed)
    assert progress(done(engine, begun)) == ("finished", 5, 5, 0)
    replayed = AuditEntry.objects.using(OPERATOR).filter(action="work.replayed")
    assert {replayed.filter(target=f"parcels:{work.pk}").count() for work in works} == {1}


def test_it_gives_its_place_up_now_and_then(engine, operator, monkeypatch):
    monkeypatch.setattr(bulk, "STRETCH", 0.0)
    dead(engine, 1)
    assert bulk.run(claim_job(engine, begin(operator))) == Snooze(0.0, "there is more to do")


def test_what_was_resolved_meanwhile_is_skipped_and_said_so(engine, operator):
    works = dead(engine, 3)
    begun = begin(operator)
    Parcel.objects.using(OPERATOR).filter(pk=works[1].pk).update(state="succeeded")
    assert progress(done(engine, begun)) == ("finished", 3, 2, 1)
    assert "1 left alone" in operator.html(f"/console/console/bulk/{begun.pk}/change/")


def test_it_stops_when_it_is_told_and_what_was_done_stays_done(engine, operator, monkeypatch):
    monkeypatch.setattr(bulk, "CHUNK", 2)
    works = dead(engine, 3)
    begun = begin(operator)
    claim = claim_job(engine, begun)
    with as_operator():
        bulk._one_chunk(claim, begun.pk, bulk.read(begun))
    url = f"/console/console/bulk/act/stop/?act.row={begun.pk}"
    operator.confirm(url, reason="wrong filter")
    assert bulk.run(claim) == Succeeded()
    begun.refresh_from_db(using=OPERATOR)
    assert progress(begun) == ("cancelled", 3, 2, 0)
    assert sorted(states(works)) == ["dead_letter", "pending", "pending"]
    with pytest.raises(StaleState):
        bulk.cancel(bulk=begun, actor="operator:1", reason="again")


# ---- The page ----


def test_its_page_shows_itself_anew_until_the_end(engine, operator):
    dead(engine, 2)
    begun = begin(operator)
    url = f"/console/console/bulk/{begun.pk}/change/"
    page = operator.get(url)
    assert 'data-refresh="2"' in page.content.decode()
    assert "Refresh" not in page.headers  # It would take the focus away, again and again.
    assert '<progress max="2" value="0">' in page.content.decode()
    done(engine, begun)
    page = operator.get(url)
    assert "data-refresh" not in page.content.decode()
    assert "finished" in page.content.decode()
    assert str(begun.pk) in operator.html("/console/console/bulk/")


def test_one_that_is_stuck_is_shown_and_goes_on_when_it_is_told(engine, operator):
    works = dead(engine, 2)
    begun = begin(operator)
    claim = claim_job(engine, begun)
    engine.settle((claim, Fail("out of luck")))
    html = operator.html(f"/console/console/bulk/{begun.pk}/change/")
    assert "stuck" in html
    assert "Go on" in html
    operator.confirm(f"/console/console/bulk/act/go-on/?act.row={begun.pk}", reason="try again")
    assert progress(done(engine, begun)) == ("finished", 2, 2, 0)
    assert set(states(works)) == {"pending"}


def test_who_is_no_operator_any_more_has_nothing_done(engine):
    works, leaving = dead(engine, 1), Signed("operator")
    begun = begin(leaving)
    with as_operator():
        leaving.user.groups.set([Group.objects.get(name="viewer")])
    outcome = bulk.run(claim_job(engine, begun))
    assert isinstance(outcome, Fail)
    assert states(works) == ["dead_letter"]


@pytest.mark.thorough
def test_ten_thousand_dead_letters_of_four_hundred_tenants_by_a_real_drainer(engine, operator):
    works = dead(engine, 10_000, tenants=400)
    began_at = time.monotonic()
    begun = begin(operator)
    assert time.monotonic() - began_at < 3.0

    def ended(drainer, died):
        begun.refresh_from_db(using=OPERATOR)
        return begun.status == "finished"

    drain(ended, name="jobs", seconds=60.0)
    assert progress(begun) == ("finished", 10_000, 10_000, 0)
    left = Parcel.objects.using(OPERATOR).filter(pk__in=[one.pk for one in works])
    assert left.filter(state="pending").count() == 10_000
    assert not DeadLetter.objects.using(OPERATOR).filter(resolved_at=None).exists()
    left.update(state="cancelled")

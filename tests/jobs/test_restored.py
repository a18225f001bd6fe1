"""The gate: after the database went back in time nothing is done until somebody has said so."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from psycopg import AsyncClientCursor

from jobs import restoring
from jobs.engine import gate
from jobs.engine.gate import Keeper
from jobs.engine.memory import Memory, recalled
from jobs.models import Gate, Job
from jobs.outcomes import Succeeded
from jobs.states import State
from tenants.models import AuditEntry
from tests.jobs.conftest import drain, fresh, wait
from tests.works.models import Parcel, Telegram

MOMENT = datetime(2026, 3, 1, 8, tzinfo=UTC)
BEFORE, AFTER = MOMENT - timedelta(minutes=5), MOMENT + timedelta(minutes=5)


def row() -> Gate:
    return Gate.objects.using("operator").get()


def known(engine) -> int:
    """The highest lease that the database knows of."""
    return engine.look().lease


def opened() -> None:
    Gate.objects.using("operator").update(held_since=None, held_why="", remembered=0)


@pytest.fixture
def gated(engine):
    """The engine, and a gate that is open before and after."""
    opened()
    yield engine
    opened()


def look(engine, memory: Memory) -> gate.Standing:
    return engine.run(gate.look(engine.connection, memory))


def remembering(engine, lease: int) -> Memory:
    memory = Memory()
    look(engine, memory)  # It learns which database this is.
    memory.own = lease
    return memory


def test_the_first_drainer_names_the_database_and_the_gate_is_open(gated):
    assert look(gated, Memory()) == (False, False)
    found = row()
    assert found.lineage is not None
    system, _, database = found.server.partition(":")
    assert system.isdigit()
    assert database.isdigit()
    assert look(gated, Memory()) == (False, False)
    assert row().lineage == found.lineage


def test_what_was_claimed_is_known_with_the_claim_itself(gated):
    me = gated.drainer()
    gated.add(count=2)
    leases = [one.lease for one in gated.claim(drainer=me)]
    assert known(gated) == max(leases)


def test_a_drainer_that_goes_leaves_its_lease_behind(gated):
    me = gated.drainer()
    gated.add()
    (one,) = gated.claim(drainer=me)
    gated.settle((one, Succeeded()))
    gated.sql("delete from jobs_drainer where id = %s", me)
    assert known(gated) == one.lease


def test_a_database_that_lost_nothing_leaves_the_gate_open(gated):
    """A failover to a standby that had everything, or a restart."""
    memory = remembering(gated, known(gated))
    assert look(gated, memory) == (False, False)
    assert row().held_since is None


def test_a_lease_that_the_database_does_not_know_shuts_the_gate(gated, client):
    memory = remembering(gated, known(gated) + 1)
    assert look(gated, memory) == (True, True)
    assert f"{memory.own} is remembered" in row().held_why
    assert client.get("/readyz").json()["checks"]["restored"] == "held"
    entry = AuditEntry.objects.using("operator").filter(action="gate.held").latest("at")
    assert entry.reason == row().held_why
    opened()
    assert client.get("/readyz").json()["checks"]["restored"] == "ok"


def test_a_database_that_was_dumped_and_restored_shuts_the_gate(gated):
    look(gated, Memory())
    Gate.objects.using("operator").update(server="7000000000000000000:5")
    try:
        assert look(gated, Memory()) == (True, True)
        assert "dumped and restored" in row().held_why
    finally:
        Gate.objects.using("operator").update(server="")


@pytest.fixture
def unreadable(monkeypatch):
    """Postgres says so of its own file when a directory on the way to it is closed."""
    monkeypatch.setattr(gate, "CLUSTER", "select pg_read_file('/nowhere/global/pg_control')")
    monkeypatch.setattr(restoring, "CLUSTER", gate.CLUSTER)
    yield
    Gate.objects.using("operator").update(server="")


def test_a_cluster_that_cannot_be_told_is_unknown_and_nobody_dies_of_it(gated, unreadable):
    Gate.objects.using("operator").update(server="")
    assert look(gated, Memory()) == (False, False)
    cluster, _, number = row().server.partition(":")
    assert (cluster, number.isdigit()) == ("", True)
    # Of another one it says nothing; the database's own number still does.
    Gate.objects.using("operator").update(server=f"7000000000000000000:{number}")
    assert look(gated, Memory()) == (False, False)
    Gate.objects.using("operator").update(server=":5")
    assert look(gated, Memory()) == (True, True)
    restoring.release(since=MOMENT, actor="operator:1", reason="a drill")
    assert (row().server, row().held_since) == (f":{number}", None)


def test_a_cluster_that_can_be_told_at_last_is_written_down(gated, monkeypatch):
    look(gated, Memory())
    told = row().server
    Gate.objects.using("operator").update(server=":" + told.partition(":")[2])
    assert look(gated, Memory()) == (False, False)
    assert row().server == told


def test_while_it_is_shut_nothing_is_claimed_nor_undone(gated):
    me = gated.drainer()
    gated.add()
    gated.add(state=State.DISCARDING)
    gated.run(gate.shut(gated.connection, why="a test", remembered=0))
    assert gated.look().held
    assert gated.claim(drainer=me) == []
    assert gated.claim_undo(drainer=me) == []
    opened()
    assert len(gated.claim(drainer=me)) == 1


def test_without_its_row_as_in_the_middle_of_a_restore_nothing_is_claimed(gated):
    me = gated.drainer()
    gated.add()
    kept = row()
    gated.sql("delete from jobs_gate")
    try:
        assert look(gated, Memory()) == (True, False)
        assert gated.claim(drainer=me) == []
        for more in (["--dry-run"], ["--reason", "r", "--yes"]):
            with pytest.raises(CommandError, match="jobs_gate has no row"):
                call_command("restored", "--since", MOMENT.isoformat(), *more)
    finally:
        kept.save(using="operator", force_insert=True)


def test_redis_remembers_for_those_who_come_later(gated):
    memory = remembering(gated, 0)
    memory.note(known(gated) + 7)
    wait(lambda: recalled(memory.lineage) >= memory.own)
    later = remembering(gated, 0)
    assert later.recall() >= memory.own
    assert look(gated, later) == (True, True)
    # And it never forgets the higher for a lower one.
    later.note(1)
    assert later.recall() >= memory.own
    restoring.release(since=MOMENT, actor="system:test", reason="a test")
    assert look(gated, remembering(gated, 0)) == (False, False)


def test_without_redis_a_drainer_goes_by_what_it_remembers_itself(gated, valkey):
    memory = remembering(gated, known(gated))
    valkey.stop()
    assert look(gated, memory) == (False, False)
    memory.own += 1
    assert look(gated, memory) == (True, True)


def test_a_drainer_dies_with_what_it_knows_of_a_time_that_is_gone(gated):
    died = []
    keeper = Keeper(died.append)
    gated.run(keeper.opened(gated.connection))
    keeper.heed()
    assert died == []
    keeper.memory.own = known(gated) + 1
    # Behind a proxy no connection is new: the look of each second tells.
    gated.run(keeper.saw(gated.connection, held=False, lease=known(gated)))
    assert died == ["the database went back in time"]
    assert row().held_since is not None


def test_a_drainer_waits_at_the_gate_and_goes_on_when_it_is_opened(gated):
    gated.run(gate.shut(gated.connection, why="a test", remembered=0))
    (one,) = gated.add(Telegram)
    looks = []

    def until(drainer, died):
        looks.append(fresh(one).state)
        if len(looks) == 100:  # Two seconds: each second it looks.
            assert set(looks) == {State.PENDING}
            restoring.release(since=BEFORE, actor="system:test", reason="a test")
        return fresh(one).state == State.SUCCEEDED

    assert drain(until) == []


def test_what_a_lost_server_had_settled_is_not_handed_back_to_be_done_again(gated):
    """A standby that has the claim and not the settlement: the work was done."""
    (one,) = gated.add(Telegram)

    def lose(drainer):
        if fresh(one).state == State.SUCCEEDED and not lost:
            lease = max(drainer._gate._received)
            gated.sql(
                "update works_telegram set state = 'processing', lease = %s, drainer = %s,"
                " finished_at = null where id = %s",
                *(lease, drainer.id, one.pk),
            )
            drainer._link.reconnected = lost.append(True) is None

    lost: list[bool] = []
    drain(lambda *_: fresh(one).state == State.UNKNOWN, meanwhile=lose)
    assert "lost" in fresh(one).last_error


# ---- Opening it ----


def at(engine, model, moment, **columns):
    """A work that was made then."""
    (work,) = engine.add(model, **columns)
    model.objects.using("operator").filter(pk=work.pk).update(created_at=moment)
    return work


@pytest.fixture
def past(gated):
    """Works of a restored database, in every state that matters."""
    due = {"due_at": AFTER}
    later = {"due_at": datetime.now(UTC) + timedelta(days=1)}
    works = {
        "pending": at(gated, Telegram, BEFORE),
        "failed": at(gated, Telegram, BEFORE, state="failed", **due),
        "scheduled": at(gated, Telegram, BEFORE, state="scheduled", **due),
        "processing": at(gated, Telegram, BEFORE, state="processing", lease=1, drainer=1),
        "later": at(gated, Telegram, BEFORE, state="scheduled", **later),
        "sent": at(gated, Telegram, BEFORE, state="succeeded"),
        "dead": at(gated, Telegram, BEFORE, state="dead_letter"),
        "new": at(gated, Telegram, AFTER),
        "parcel": at(gated, Parcel, BEFORE),
    }
    held = gated.drainer()
    # Of the past too: nothing is claimed while the gate is shut.
    works["living"] = at(gated, Telegram, BEFORE, state="processing", lease=2, drainer=held)
    gated.run(gate.shut(gated.connection, why="a test", remembered=10**6))
    return works


MARKED = {"pending", "failed", "scheduled", "processing"}
HELD = MARKED | {"living"}  # Where drainers noticed.


def test_what_may_have_been_done_since_becomes_unknown_and_nothing_else(past):
    before = {name: work.state for name, work in past.items()}
    done = restoring.release(since=MOMENT, actor="operator:1", reason="restored at eight")
    assert done.marked["telegrams"] == len(HELD)
    for name, work in past.items():
        assert fresh(work).state == ("unknown" if name in HELD else before[name]), name
    one = fresh(past["processing"])
    assert (one.lease, one.drainer) == (None, None)
    assert one.last_error.startswith("perhaps sent")
    entry = AuditEntry.objects.using("operator").filter(action="gate.opened").latest("at")
    assert (entry.actor, entry.reason) == ("operator:1", "restored at eight")
    assert entry.after["marked"]["telegrams"] == len(HELD)


def test_opened_nobody_gets_a_lease_or_a_number_that_somebody_remembers(past, gated):
    drainers = gated.drainer()
    restoring.release(since=MOMENT, actor="operator:1", reason="r")
    assert row().held_since is None
    memory = remembering(gated, 10**6)
    assert look(gated, memory) == (False, False)
    me = gated.drainer()
    assert me > drainers + 1
    gated.add()
    assert gated.claim(drainer=me)[0].lease > 10**6


def test_it_may_be_called_again_after_it_was_killed_halfway(past, monkeypatch):
    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(restoring, "_open", killed)
        with pytest.raises(KeyboardInterrupt):
            restoring.release(since=MOMENT, actor="operator:1", reason="r")
    assert row().held_since is not None
    assert fresh(past["pending"]).state == State.UNKNOWN
    again = restoring.release(since=MOMENT, actor="operator:1", reason="r")
    assert again.marked["telegrams"] == 0
    assert row().held_since is None


def test_the_command_counts_first_and_needs_a_reason_and_a_yes(past):
    out = StringIO()
    call_command("restored", "--since", MOMENT.isoformat(), "--dry-run", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert (told["held"], told["changed"]) == (True, False)
    assert told["marked"]["telegrams"] == len(HELD)
    for options, said in ((["--yes"], "--reason"), (["--reason", "r"], "--yes")):
        with pytest.raises(CommandError, match=said):
            call_command("restored", "--since", MOMENT.isoformat(), *options)
    assert fresh(past["pending"]).state == State.PENDING
    out = StringIO()
    given = ["--since", MOMENT.isoformat(), "--reason", "r", "--yes"]
    call_command("restored", *given, stdout=out)
    assert f"telegrams: {len(HELD)} became unknown" in out.getvalue()
    assert "Drainers go on." in out.getvalue()
    assert row().held_since is None


def test_with_an_open_gate_it_marks_all_the_same(past):
    """Nobody noticed: everything that could remember was stopped, and Redis with it."""
    opened()
    assert restoring.find(since=MOMENT).held is False
    done = restoring.release(since=MOMENT, actor="a", reason="r")
    assert done.marked["telegrams"] == len(MARKED)
    # A drainer that lives claimed it from this very database.
    assert fresh(past["living"]).state == State.PROCESSING
    assert row().held_since is None


def test_who_signs_up_afterwards_gets_no_number_of_a_forgotten_tenant(gated):
    drawn = "select nextval('public.tenants_tenant_id_seq')"
    [(before,)] = gated.sql(drawn)
    restoring.release(since=MOMENT, actor="a", reason="r")
    [(after,)] = gated.sql(drawn)
    assert after > before + restoring.ROOM


def test_nor_does_who_signs_up_while_the_gate_is_shut(gated):
    """As soon as a drainer has looked; requests are served while it is shut."""
    drawn = "select nextval('public.tenants_tenant_id_seq')"
    [(before,)] = gated.sql(drawn)
    memory = remembering(gated, known(gated) + 10)
    assert look(gated, memory) == (True, True)
    [(after,)] = gated.sql(drawn)
    assert after > before + restoring.ROOM
    look(gated, memory)  # Shut already.
    assert gated.sql(drawn) == [(after + 1,)]


def test_jobs_are_simply_done_again(gated):
    job = at(gated, Job, BEFORE, kind="act", args={"act": "succeed"})
    gated.run(gate.shut(gated.connection, why="a test", remembered=0))
    restoring.release(since=MOMENT, actor="a", reason="r")
    assert fresh(job).state == State.PENDING


def test_looking_is_one_connection_s_and_not_each_claim_s(gated, monkeypatch):
    """A claim is two messages to the server: the gate is a condition in the first of them."""
    me, seen, execute = gated.drainer(), [], AsyncClientCursor.execute

    def listening(cursor, query, *args):
        seen.append(query)
        return execute(cursor, query, *args)

    gated.add()
    gated.claim(drainer=me)  # Which prepares.
    gated.add()
    monkeypatch.setattr(AsyncClientCursor, "execute", listening)
    assert gated.claim(drainer=me)
    assert len(seen) == 2

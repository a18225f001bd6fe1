"""What the doctor looks at in the engine: partitions, queues, drainers, lanes, the gate."""

from collections.abc import Iterator
from datetime import timedelta

from django.db import connections

from config import health
from config.doctor import Finding, fail, ok, warn
from jobs.engine.look import STALE_SECONDS
from jobs.engine.sql import HELD
from jobs.models import GATE, Drainer, Gate
from jobs.registry import queues

OPERATOR = "operator"
FEW_DAYS = 7  # Of partitions ahead: an hourly run keeps fourteen.
COUNTED = 10_000  # Works of one queue, at most: it is for looking, not for counting.
LATE, VERY_LATE = 300.0, 3600.0  # Seconds that a work may wait that could run.

# By the index of what is runnable; the age is that of the first ones it comes by. What is suspended
# waits as what is paused does.
_WAITING = """
select count(*),
  coalesce(extract(epoch from now() - min(due_at) filter (where not paused)), 0)::float8,
  count(*) filter (where paused)
from (select w.due_at, exists (
    select from jobs_lane l where l.tenant_id = w.tenant_id and l.key = w.lane
      and greatest(l.paused_until, l.operator_paused_until) > now())
    or exists (select from tenants_tenant t where t.id = w.tenant_id and ({held})) as paused
  from {table} w where w.state = 'pending' limit {most}) waiting
"""
_LANES = """
select count(*) filter (where operator_paused_until > now()),
  count(*) filter (where trips > 0 and paused_until > now()),
  count(*) filter (where trips > 0)
from jobs_lane where operator_paused_until > now() or trips > 0
"""
_LETTERS = """
select queue, count(*), min(created_at) from (
  select queue, created_at from jobs_deadletter where resolved_at is null limit {most}) open
group by queue order by queue
"""


def look_at_partitions() -> Iterator[Finding]:
    """Days ahead, of each partitioned table."""
    for table, days in health.days_ahead(using=OPERATOR).items():
        if days < 0:
            said = f"{table} has no partition for today: what is tried is only logged."
            yield fail(said, "Run `manage.py partitions` now, and each hour (beat does).")
        elif days < FEW_DAYS:
            said = f"{table} has partitions for {days} days after today."
            yield warn(said, "Run `manage.py partitions`; is `beat` alive?")
        else:
            yield ok(f"{table} has partitions for {days} days after today.")


def look_at_queues() -> Iterator[Finding]:
    """How much waits that could run, and for how long."""
    for queue in queues().values():
        with connections[OPERATOR].cursor() as cursor:
            cursor.execute(_WAITING.format(table=queue.table, most=COUNTED, held=HELD))
            depth, age, paused = cursor.fetchone()
        many = f"{COUNTED} or more" if depth == COUNTED else str(depth)
        said = f"{queue.name}: {many} wait"
        if paused:
            said += f", {paused} of them in lanes that are paused, or of suspended tenants"
        if depth > paused and age > LATE:
            said += f"; the oldest for {timedelta(seconds=round(age))}"
            do = "Are workers alive? One more, on any machine, takes its share at once."
            yield (fail if age > VERY_LATE else warn)(f"{said}.", do)
        else:
            yield ok(f"{said}.")


def look_at_letters() -> Iterator[Finding]:
    """Dead letters that nobody has resolved."""
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_LETTERS.format(most=COUNTED))
        rows = cursor.fetchall()
    for queue, count, oldest in rows:
        yield warn(
            f"{queue}: {count} dead letters are open, the oldest from {oldest:%Y-%m-%d %H:%M} UTC.",
            f"Read why in the console; then manage.py replay {queue}, or discard {queue}.",
        )
    if not rows:
        yield ok("No dead letter is open.")


def look_at_drainers() -> Iterator[Finding]:
    """Who does the work."""
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute("select clock_timestamp()")
        (now,) = cursor.fetchone()
    rows = Drainer.objects.using(OPERATOR)
    fresh = now - timedelta(seconds=STALE_SECONDS)
    alive = list(rows.filter(dead_at=None, beat_at__gte=fresh))
    dead = [one for one in rows.all() if one.dead_at is not None or one.beat_at < fresh]
    if not alive:
        said = "No worker lives: nothing is done."
        yield fail(said, "Start `worker` processes; their log says why they died.")
    else:
        busy, slots = sum(one.busy for one in alive), sum(one.slots for one in alive)
        hosts = ", ".join(sorted({one.host for one in alive}))
        yield ok(f"{len(alive)} drainers live, {busy} of {slots} slots busy, on {hosts}.")
    if dead:
        named = ", ".join(f"{one.host}:{one.pid}" for one in dead[:5])
        yield warn(
            f"{len(dead)} drainers are dead or silent: {named}.",
            "A living one rescues what they held within 20 s. See why they died.",
        )


def look_at_lanes() -> Iterator[Finding]:
    """Lanes that operators paused, and those whose breaker is open."""
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(_LANES)
        by_operator, by_breaker, failing = cursor.fetchone()
    if by_operator:
        yield warn(
            f"{by_operator} lanes are paused by operators.", "manage.py lanes list shows them."
        )
    if failing:
        said = f"{failing} lanes fail, {by_breaker} of them are paused by their breaker."
        yield ok(f"{said} They are tried again by themselves.")
    if not (by_operator or failing):
        yield ok("No lane is paused, and none fails.")


def look_at_gate() -> Iterator[Finding]:
    """Whether drainers wait for somebody after a restore."""
    gate = Gate.objects.using(OPERATOR).filter(pk=GATE).first()
    if gate is None:
        yield fail("jobs_gate has no row: drainers claim nothing.", "Is a restore under way?")
    elif gate.held_since is not None:
        yield fail(
            f"Drainers wait since {gate.held_since:%Y-%m-%d %H:%M:%S} UTC: {gate.held_why}.",
            "Say to which moment it was restored: manage.py restored --since MOMENT --dry-run, and"
            " then with --reason (docs/operations.md, Restore).",
        )
    else:
        yield ok("The database did not go back in time.")

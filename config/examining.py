"""What the doctor looks at in the frame: settings, clock, Redis, beat, mail, room."""

import os
import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

from celery.schedules import crontab
from django.conf import settings
from django.core import checks
from django.core.mail import get_connection
from django.db import connections

from config import ran
from config.doctor import Finding, fail, ok, warn
from config.redis import client

DRIFT, MUCH_DRIFT = 2.0, 30.0  # Seconds between two clocks.
SLOW_REDIS = 0.05  # Seconds for a ping.
LITTLE_DISK, NO_DISK = 2 * 2**30, 256 * 2**20  # Bytes.
BUSY = 0.8  # Of max_connections.
TIMEOUT = 2.0  # Seconds.
# Those of Django's that https answers; what stands without it is said once.
OF_HTTPS = {"security.W004", "security.W008", "security.W012", "security.W016", "security.W005"}
OF_HTTPS |= {"security.W010", "security.W011", "security.W021"}


def look_at_settings() -> Iterator[Finding]:
    """What `manage.py check --deploy` says, without the database."""
    found = checks.run_checks(include_deployment_checks=True)
    if not settings.HTTPS:
        found = [one for one in found if one.id not in OF_HTTPS]
        if not settings.EMBEDDED:
            yield warn(
                f"PUBLIC_URL is {settings.PUBLIC_URL}: cookies and keys travel unencrypted.",
                "Put a proxy with TLS in front, and set PUBLIC_URL to its https address.",
            )
    found = [one for one in found if not one.is_silenced()]
    for one in found:
        level = fail if one.level >= checks.ERROR else warn
        yield level(f"{one.id}: {one.msg}", one.hint or "See `manage.py check --deploy`.")
    if settings.DEBUG:
        yield warn("DEBUG is on: errors show what is inside.", "Set DEBUG=false.")
    if not found:
        yield ok("Django's own checks find nothing.")


def look_at_clock() -> Iterator[Finding]:
    """The database's clock against this machine's: leases, beats and contexts go by the former."""
    began_at = time.time()
    with connections["operator"].cursor() as cursor:
        cursor.execute("select extract(epoch from clock_timestamp())::float8")
        (there,) = cursor.fetchone()
    drift = there - (began_at + time.time()) / 2
    said = f"The database's clock is {drift:+.2f} s from this machine's."
    do = "Let both machines keep time by NTP (chronyc tracking, timedatectl)."
    if abs(drift) > DRIFT:
        yield (fail if abs(drift) > MUCH_DRIFT else warn)(said, do)
    else:
        yield ok(said)


def look_at_redis() -> Iterator[Finding]:
    """Whether it answers, how quickly, and whether it may throw away what has no end."""
    redis = client(timeout=TIMEOUT)
    try:
        redis.ping()
        began_at = time.monotonic()
        redis.ping()
        took = time.monotonic() - began_at
        info = redis.info()
    except Exception as error:
        yield fail(
            f"Redis does not answer: {type(error).__name__}: {str(error)[:200]}",
            "Start it, or mend REDIS_URL. Until then limits count in each process, work starts"
            " within a second, and nothing periodic runs.",
        )
        return
    said = f"It answers in {took * 1000:.1f} ms, {info.get('used_memory_human', '?')} used."
    slow = "Look at its machine and the network; it should be near the workers."
    yield ok(said) if took < SLOW_REDIS else warn(said, slow)
    policy = str(info.get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        yield warn(
            f"Its eviction policy is {policy}: the mark of the highest lease may be thrown away.",
            "Set maxmemory-policy to volatile-lru or noeviction.",
        )


def look_at_beat() -> Iterator[Finding]:
    """Whether the periodic tasks ran of late, as workers say in Redis."""
    if settings.BROKER == "none":
        yield ok("SLIPWAY_BROKER=none: cron runs what is periodic (docs/operations.md).")
        return
    now, when = time.time(), ran.when()
    late = []
    for name, entry in settings.SLIPWAY["BEAT"].items():
        at = when.get(entry["task"])
        patience = _patience(entry["schedule"])
        # One that has not run yet may have had no time to.
        if now - (at or when.get(ran.SINCE, now)) > patience:
            ago = "never" if at is None else f"{timedelta(seconds=round(now - at))} ago"
            late.append(f"{name} ({ago})")
    soonest = min(_patience(entry["schedule"]) for entry in settings.SLIPWAY["BEAT"].values())
    if not when and now - ran.redis_started_at() < soonest:
        yield ok("Redis was just started: no periodic task is late yet.")
    elif not when:
        yield fail(
            "No periodic task has run since Redis was started.",
            "Start one `beat` process; is there a worker? Its log says why tasks fail.",
        )
    elif late:
        yield warn(
            f"Not run in time: {', '.join(late)}.",
            "Is `beat` alive? Run the command by hand (docs/operations.md, Housekeeping).",
        )
    else:
        yield ok(f"All {len(settings.SLIPWAY['BEAT'])} periodic tasks ran in time.")


def _patience(schedule: object) -> float:
    """Seconds after which a task is late: twice its interval, and a while."""
    if not isinstance(schedule, crontab):
        return 2 * float(schedule) + 60  # type: ignore[arg-type]
    hourly = len(schedule.hour) > 1  # type: ignore[attr-defined]
    return 2 * (3600.0 if hourly else 86400.0) + 60


def look_at_mail() -> Iterator[Finding]:
    """Sign in at the mail server, and send nothing; or write a file where mails are files."""
    if settings.EMAIL_BACKEND.endswith("filebased.EmailBackend"):
        path = os.path.join(settings.EMAIL_FILE_PATH, f".doctor-{uuid4().hex}")
        os.makedirs(settings.EMAIL_FILE_PATH, exist_ok=True)
        with open(path, "w") as file:
            file.write("probe")
        os.unlink(path)
        said = f"Mails are written to {settings.EMAIL_FILE_PATH}, and reach nobody."
        yield ok(said) if settings.EMBEDDED else warn(said, "Set EMAIL_URL to a mail server.")
        return
    if not settings.EMAIL_BACKEND.endswith("smtp.EmailBackend"):
        yield ok(f"Mails go through {settings.EMAIL_BACKEND}, which the doctor does not know.")
        return
    where = f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}"
    connection = get_connection(timeout=min(settings.EMAIL_TIMEOUT, 8))
    try:
        connection.open()
        connection.close()
    except Exception as error:
        yield fail(
            f"{where} refuses: {type(error).__name__}: {str(error)[:200]}",
            "Mend EMAIL_URL or the server. Mails are tried again for hours, and then are dead"
            " letters: manage.py replay.",
        )
        return
    as_whom = f" as {settings.EMAIL_HOST_USER}" if settings.EMAIL_HOST_USER else ""
    yield ok(f"{where} takes the connection{as_whom}.")


def look_at_room() -> Iterator[Finding]:
    """Disk under the state directory, and connections that the database has left."""
    place = settings.STATE_DIR if settings.STATE_DIR.exists() else settings.BASE_DIR
    free = shutil.disk_usage(place).free
    said = f"{free / 2**30:.1f} GiB are free at {place}."
    if free < LITTLE_DISK:
        yield (fail if free < NO_DISK else warn)(said, "Make room, or move SLIPWAY_STATE_DIR.")
    else:
        yield ok(said)
    with connections["operator"].cursor() as cursor:
        cursor.execute(
            "select current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int,"
            " (select sum(numbackends) from pg_stat_database),"
            " pg_size_pretty(pg_database_size(current_database()))"
        )
        most, used, size = cursor.fetchone()
    said = f"{used} of {most} connections are open; the database has {size}."
    if used > BUSY * most:
        do = "Raise max_connections, lower DATABASE_POOL_SIZE, or put PgBouncer in front."
        yield warn(said, do)
    else:
        yield ok(said)
    if most < settings.POOL_SIZE:
        yield warn(
            f"One worker may open {settings.POOL_SIZE}, which is more than all.",
            "Lower DATABASE_POOL_SIZE, or raise max_connections.",
        )

"""The doctor, with each part really spoilt: it names what is wrong, and says what to do."""

import json
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import connections

from config import doctor, ran
from config.celery import app
from config.doctor import Level
from config.redis import client
from jobs.models import DeadLetter, Gate, Job, Lane
from tenants.context import tenant_context
from webhooks import secrets
from webhooks.models import Endpoint
from webhooks.tasks import tend


def look(name: str, **options) -> doctor.Report:
    (report,) = doctor.examine([name], **options)
    return report


def said(report: doctor.Report, level: Level) -> str:
    """What is told at this level, and what is to be done about it."""
    return " ".join(f"{one.said} {one.do}" for one in report.findings if one.level == level)


def failing(name: str, **options) -> str:
    return said(look(name, **options), Level.FAIL)


def warning(name: str) -> str:
    return said(look(name), Level.WARN)


@contextmanager
def spoilt(connection, spoil: str, mend: str) -> Iterator[None]:
    """The statement in force while the block runs."""
    connection.execute(spoil)
    try:
        yield
    finally:
        connection.execute(mend)


def doctored(*arguments: str) -> tuple[int, str]:
    """The command's exit code, and what it said."""
    out = StringIO()
    try:
        call_command("doctor", *arguments, stdout=out)
    except SystemExit as ended:
        return int(ended.code), out.getvalue()
    return 0, out.getvalue()


# ---- As a whole ----


def test_what_is_well_is_said_to_be_well():
    parts = ["roles", "isolation", "migrations", "context", "clock", "partitions", "restored"]
    for report in doctor.examine([*parts, "redis", "storage", "mail"]):
        assert said(report, Level.FAIL) == ""
        assert report.findings


def test_each_part_has_a_look_and_each_is_told_in_turn():
    assert [report.name for report in doctor.examine(["mail", "clock"])] == ["clock", "mail"]


def test_a_part_that_hangs_is_told_and_keeps_no_other_waiting(settings):
    settings.SLIPWAY = settings.SLIPWAY | {
        "DOCTOR": {
            "stuck": "tests.config.test_doctor.hang",
            "clock": settings.SLIPWAY["DOCTOR"]["clock"],
        }
    }
    began_at = time.monotonic()
    stuck, clock = doctor.examine(deadline=1.0)
    assert time.monotonic() - began_at < 3
    assert "did not answer within 1 s" in said(stuck, Level.FAIL)
    assert clock.level == Level.OK


def hang():
    yield doctor.ok("So far.")
    threading.Event().wait()


def test_a_look_that_breaks_is_a_finding(settings):
    settings.SLIPWAY = settings.SLIPWAY | {"DOCTOR": {"bad": "tests.config.test_doctor.breaks"}}
    assert "ZeroDivisionError" in failing("bad")


def breaks():
    yield doctor.ok("So far.")
    1 / 0  # noqa: B018


def test_the_exit_code_says_how_bad_it_is(operator):
    code, text = doctored("--only", "clock")
    assert code == 0
    assert "ok" in text
    with spoilt(
        operator,
        "update jobs_gate set held_since = now(), held_why = 'a test'",
        "update jobs_gate set held_since = null, held_why = ''",
    ):
        code, text = doctored("--only", "restored", "--json")
        told = json.loads(text)
        assert (code, told["level"]) == (2, "fail")
        assert told["parts"][0]["findings"][0]["do"]
    with spoilt(
        operator,
        "insert into jobs_deadletter (id, tenant_id, queue, work_id, reason, error)"
        " values (gen_random_uuid(), 1, 'jobs', gen_random_uuid(), 'failed', '')",
        "delete from jobs_deadletter where tenant_id = 1",
    ):
        assert doctored("--only", "letters", "--only", "clock")[0] == 1


# ---- The database ----


def test_a_right_that_was_revoked_is_named(superuser):
    table = "webhooks_endpoint"
    with spoilt(
        superuser,
        f"revoke insert on {table} from slipway_app",
        f"grant insert on {table} to slipway_app",
    ):
        assert f"slipway_app lacks rights: public.{table}: insert" in failing("roles")
    with spoilt(
        superuser,
        f"revoke select on {table} from slipway_operator",
        f"grant select on {table} to slipway_operator",
    ):
        assert f"slipway_operator cannot read public.{table}" in failing("roles")
    assert failing("roles") == ""


def test_an_app_role_that_became_too_strong_is_named(superuser):
    with spoilt(
        superuser,
        "grant execute on function pg_catalog.set_config(text, text, boolean) to slipway_app",
        "revoke execute on function pg_catalog.set_config(text, text, boolean) from slipway_app",
    ):
        assert "may call set_config()" in failing("roles")


def test_a_schema_that_is_closed_is_named_and_hides_nothing_else(superuser, make_tenant):
    """One that bears a tenant's name, and was made by somebody else."""
    schema = make_tenant().schema_name
    closed = f"create schema {schema} authorization slipway_owner"
    with (
        spoilt(superuser, closed, f"drop schema {schema}"),
        spoilt(
            superuser,
            "alter table webhooks_event no force row level security",
            "alter table webhooks_event force row level security",
        ),
    ):
        assert f"{schema} may not be entered by the operator's login." in failing("migrations")
        assert "webhooks_event does not force row-level security" in failing("isolation")


def test_a_policy_that_was_dropped_is_named(superuser):
    with spoilt(
        superuser,
        "alter table webhooks_event no force row level security",
        "alter table webhooks_event force row level security",
    ):
        assert "webhooks_event does not force row-level security" in failing("isolation")
    with spoilt(
        superuser,
        "alter policy tenant_isolation on jobs_lane rename to other",
        "alter policy other on jobs_lane rename to tenant_isolation",
    ):
        assert "jobs_lane has no policy tenant_isolation" in failing("isolation")


def test_a_schema_that_lacks_a_migration_is_named(dedicated_tenant, superuser):
    schema = dedicated_tenant.schema_name
    with spoilt(
        superuser,
        f"update {schema}.django_migrations set name = name || '_' where name = '0006_erasure'",
        f"update {schema}.django_migrations set name = '0006_erasure' where name = '0006_erasure_'",
    ):
        assert f"{schema} lacks customers.0006_erasure" in failing("migrations")


def test_a_day_without_a_partition_is_named(superuser):
    name = superuser.execute("select 'jobs_attempt_' || to_char(now(), 'YYYYMMDD')").fetchone()[0]
    bound = superuser.execute(
        "select pg_get_expr(relpartbound, oid) from pg_class where relname = %s", [name]
    ).fetchone()[0]
    with spoilt(
        superuser,
        f"alter table jobs_attempt detach partition {name}",
        f"alter table jobs_attempt attach partition {name} {bound}",
    ):
        assert "jobs_attempt has no partition for today" in failing("partitions")
    assert failing("partitions") == ""


def test_a_key_of_the_context_that_postgres_does_not_know_is_named(settings):
    settings.CONTEXT_KEY = b"x" * 40
    assert "does not accept CONTEXT_KEY" in failing("context")


def test_clocks_that_differ_are_named(monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10)
    assert "-10.0" in warning("clock")
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    assert "keep time by NTP" in failing("clock")


# ---- Work ----


def test_work_that_waits_too_long_is_named(operator, tenant):
    operator.execute("update jobs_job set state = 'cancelled' where state = 'pending'")
    job = Job(tenant_id=tenant.pk, lane="jobs:1", kind="act", max_attempts=3)
    Job.objects.using("operator").bulk_create([job])
    operator.execute("update jobs_job set due_at = now() - interval '10 minutes'")
    assert "jobs: 1 wait; the oldest for 0:10:0" in warning("queues")
    operator.execute("update jobs_job set due_at = now() - interval '2 hours'")
    assert "One more, on any machine" in failing("queues")
    Lane.objects.using("operator").create(
        tenant_id=tenant.pk, key="jobs:1", operator_paused_until="9999-12-31T00:00Z"
    )
    # In a paused lane it waits for a reason, which is told elsewhere.
    assert "jobs: 1 wait, 1 of them in lanes that are paused" in said(look("queues"), Level.OK)
    assert "1 lanes are paused by operators" in warning("lanes")
    Lane.objects.using("operator").filter(tenant_id=tenant.pk).delete()
    operator.execute("update jobs_job set state = 'cancelled' where state = 'pending'")


def test_dead_letters_are_counted_by_queue():
    DeadLetter.objects.using("operator").filter(queue="messages", resolved_at=None).delete()
    letter = DeadLetter(tenant_id=1, queue="messages", work_id=uuid4(), reason="failed")
    DeadLetter.objects.using("operator").bulk_create([letter])
    assert "messages: 1 dead letters are open" in warning("letters")
    assert "manage.py replay messages" in warning("letters")
    DeadLetter.objects.using("operator").filter(pk=letter.pk).delete()


def test_that_no_worker_lives_is_a_failure_and_a_dead_one_a_warning(operator):
    operator.execute("delete from jobs_drainer")
    assert "No worker lives" in failing("drainers")
    operator.execute(
        "insert into jobs_drainer (host, pid, busy, slots, beat_at) values"
        " ('alive', 1, 3, 8, now()), ('silent', 2, 0, 8, now() - interval '1 minute')"
    )
    report = look("drainers")
    assert "1 drainers live, 3 of 8 slots busy, on alive" in said(report, Level.OK)
    assert "1 drainers are dead or silent: silent:2" in said(report, Level.WARN)
    operator.execute("delete from jobs_drainer")


def test_drainers_that_wait_after_a_restore_are_named(operator):
    Gate.objects.using("operator").update(held_since="2026-03-01T08:00Z", held_why="a test")
    assert "Drainers wait since 2026-03-01 08:00:00 UTC: a test" in failing("restored")
    assert "manage.py restored --since" in failing("restored")
    Gate.objects.using("operator").update(held_since=None, held_why="")


# ---- Redis, and what is periodic ----


def test_redis_that_is_stopped_is_named(valkey):
    valkey.stop()
    assert "Redis does not answer" in failing("redis")
    assert "ConnectionError" in failing("beat")


def test_a_redis_that_may_forget_anything_is_named():
    before = client().config_get("maxmemory-policy")["maxmemory-policy"]
    client().config_set("maxmemory-policy", "allkeys-lru")
    assert "may be thrown away" in warning("redis")
    client().config_set("maxmemory-policy", before)


def test_that_no_periodic_task_ever_ran_is_a_failure_once_one_should_have(monkeypatch):
    client().delete(ran.KEY)
    started_at = ran.redis_started_at()
    for later, level in ((60, Level.OK), (600, Level.FAIL)):
        monkeypatch.setattr("config.examining.time.time", lambda at=started_at + later: at)
        assert look("beat").level == level
    assert "No periodic task has run" in failing("beat")


def test_tasks_that_did_not_run_in_time_are_named(settings):
    now = time.time()
    tasks = {entry["task"]: now for entry in settings.SLIPWAY["BEAT"].values()}
    client().hset(ran.KEY, mapping=tasks | {"webhooks.tend": now - 600})
    assert "tend (0:10:00 ago)" in warning("beat")
    client().hdel(ran.KEY, "jobs.prune")  # An hour has not been over since.
    app.tasks[tend.name].apply()  # As a worker does it.
    assert look("beat").level == Level.OK
    client().hset(ran.KEY, ran.SINCE, now - 3 * 3600)
    assert "prune (never)" in warning("beat")


# ---- Mail and files ----


class Refusing(socketserver.BaseRequestHandler):
    """A mail server that takes nobody."""

    greeting = b"554 no\r\n"

    def handle(self):
        self.request.sendall(self.greeting)
        time.sleep(0.2)


@pytest.fixture
def smtp(settings):
    """Mail by SMTP to a port of loopback, where a refusing server listens."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        yield server
        server.shutdown()


def test_a_mail_server_that_refuses_or_is_away_is_named(smtp, settings, free_port):
    assert "SMTPConnectError" in failing("mail")
    settings.EMAIL_PORT = free_port
    assert "ConnectionRefusedError" in failing("mail")


@pytest.fixture
def free_port():
    with socketserver.TCPServer(("127.0.0.1", 0), Refusing) as server:
        return server.server_address[1]


def test_a_directory_of_mails_that_cannot_be_written_is_named(settings, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path / "file"
    assert "FileExistsError" in failing("mail")


def test_a_storage_that_cannot_be_written_is_named(settings, tmp_path):
    (tmp_path / "file").write_text("not a directory")
    tenants = settings.STORAGES["tenants"] | {"OPTIONS": {"location": str(tmp_path / "file")}}
    settings.STORAGES = settings.STORAGES | {"tenants": tenants}
    assert "FileSystemStorage refuses" in failing("storage")


def test_nothing_of_the_probe_is_left(settings, tmp_path):
    tenants = settings.STORAGES["tenants"] | {"OPTIONS": {"location": str(tmp_path)}}
    settings.STORAGES = settings.STORAGES | {"tenants": tenants}
    assert look("storage").level == Level.OK
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


# ---- Keys, settings, room ----


def test_a_stored_secret_that_no_key_opens_is_counted(tenant, settings):
    with tenant_context(tenant):
        one = Endpoint.objects.create(
            url="https://a.test/", host="a.test:443", custom_headers=secrets.encrypt("{}")
        )
    own, before = settings.STORED_SECRET_KEYS, failing("secrets")
    settings.STORED_SECRET_KEYS = [Fernet.generate_key().decode()]
    assert "stored secrets no key of STORED_SECRET_KEYS opens" in failing("secrets")
    settings.STORED_SECRET_KEYS = [*settings.STORED_SECRET_KEYS, *own]
    assert failing("secrets") == before  # What other tests left is no key's.
    assert "rotate-keys stored" in warning("secrets")
    with connections["operator"].cursor() as cursor:
        cursor.execute("delete from webhooks_endpoint where id = %s", [one.pk])


def test_settings_that_are_for_development_alone_are_named(settings):
    settings.DEBUG = True
    assert "DEBUG is on" in warning("settings")


def test_a_full_disk_and_used_up_connections_are_named(monkeypatch, superuser):
    monkeypatch.setattr("config.examining.LITTLE_DISK", 2**60)
    monkeypatch.setattr("config.examining.BUSY", 0.0)
    told = warning("room")
    assert "Make room" in told
    assert "Raise max_connections" in told
    monkeypatch.setattr("config.examining.NO_DISK", 2**60)
    assert "Make room" in failing("room")

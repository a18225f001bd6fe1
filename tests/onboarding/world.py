"""The world as it is, past every ledger: the catalogue, the files, the mail server."""

import random
import socket
import threading
from email import message_from_bytes
from pathlib import Path
from uuid import UUID

import psycopg
from aiosmtpd.controller import Controller
from django.conf import settings
from django.core.files.storage import storages

from tests.onboarding.hands import settle, take


def fresh_address() -> str:
    """An address that no other test has: limits are counted by it."""
    return f"10.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def request_id_of(accepted) -> UUID:
    assert accepted.status_code == 202, accepted.content
    return UUID(accepted.json()["request_id"].removeprefix("req_"))


def tenant_id_of(operator: psycopg.Connection, request_id: UUID) -> int:
    row = operator.execute(
        "select tenant_id from onboarding_pendingonboarding where id = %s", [request_id]
    ).fetchone()
    return row[0]


def provision(operator: psycopg.Connection, accepted) -> int:
    """Bring a sign-up to its end by hand; the tenant's number."""
    from jobs.outcomes import Succeeded
    from onboarding import steps

    claim = take(operator, request_id_of(accepted))
    outcome = steps.run(claim)
    assert outcome == Succeeded(), outcome
    settle(operator, claim, "succeeded")
    return claim.tenant_id


def activate_owner(operator: psycopg.Connection, tenant_id: int) -> None:
    operator.execute(
        "update tenants_user u set activated_at = now() from tenants_membership m"
        " where m.user_id = u.id and m.tenant_id = %s",
        [tenant_id],
    )
    operator.execute(
        "update tenants_membership set accepted_at = now() where tenant_id = %s", [tenant_id]
    )


def give_up_what_others_left(operator: psycopg.Connection) -> None:
    """Cancel every work in this worker's database: a drainer that a test starts would do it."""
    for table in ("onboarding_pendingonboarding", "jobs_job"):
        operator.execute(
            f"update {table} set state = 'cancelled', lease = null, drainer = null"
            " where state in ('pending', 'scheduled', 'failed', 'processing', 'discarding')"
        )


def traces(operator: psycopg.Connection, tenant_id: int) -> dict[str, int]:
    """How many rows, schemas, files and jobs to do bear a tenant's number. Absent: none."""
    found = {}
    for (table,) in operator.execute(
        "select c.oid::regclass::text from pg_class c join pg_attribute a on a.attrelid = c.oid"
        " where a.attname = 'tenant_id' and c.relkind in ('r', 'p') and not c.relispartition"
        " and c.relname not in ('tenants_auditentry', 'jobs_attempt', 'jobs_deadletter',"
        "   'onboarding_pendingonboarding', 'jobs_job')"
    ).fetchall():
        found[table] = _count(
            operator, f"select count(*) from {table} where tenant_id = %s", tenant_id
        )
    found["jobs_job"] = _count(
        operator,
        "select count(*) from jobs_job where tenant_id = %s and finished_at is null"
        " and state not in ('succeeded', 'discarded', 'cancelled')",
        tenant_id,
    )
    found["tenants_tenant"] = _count(
        operator, "select count(*) from tenants_tenant where id = %s", tenant_id
    )
    found["schema"] = _count(
        operator, "select count(*) from pg_namespace where nspname = 't_' || %s", tenant_id
    )
    found["files"] = len(files_of(tenant_id))
    return {name: count for name, count in found.items() if count}


def _count(operator: psycopg.Connection, query: str, tenant_id: int) -> int:
    return operator.execute(query, [tenant_id]).fetchone()[0]


def files_of(tenant_id: int) -> list[str]:
    """Every file and directory under the tenant's prefix."""
    storage = storages["tenants"]
    if not hasattr(storage, "location") or hasattr(storage, "bucket"):
        return [obj.key for obj in storage.bucket.objects.filter(Prefix=f"t_{tenant_id}/")]
    root = Path(storage.location) / f"t_{tenant_id}"
    return [str(root), *map(str, root.rglob("*"))] if root.exists() else []


class MailServer:
    """A mail server that keeps what it gets, and can be told to misbehave."""

    def __init__(self) -> None:
        self.mails: list = []
        self.refuse: str | None = None  # An answer to DATA instead of taking the mail.
        self.hang_for: str = "nobody"  # Recipients whose DATA is never answered …
        self.released = threading.Event()  # … until the test ends.
        self.waiting = 0
        self._controller = Controller(self, hostname="127.0.0.1", port=free_port())

    @property
    def host(self) -> str:
        return self._controller.hostname

    @property
    def port(self) -> int:
        return self._controller.port

    def to(self, email: str) -> list:
        """The mails that were taken for one recipient."""
        return [mail for mail in self.mails if mail["To"] == email]

    async def handle_DATA(self, server, session, envelope):
        import asyncio

        if self.refuse:
            return self.refuse
        if any(self.hang_for in recipient for recipient in envelope.rcpt_tos):
            self.waiting += 1
            while not self.released.is_set():
                await asyncio.sleep(0.05)
        self.mails.append(message_from_bytes(envelope.content))
        return "250 OK"

    def __enter__(self) -> "MailServer":
        self._controller.start()
        return self

    def __exit__(self, *exc_info) -> None:
        self.released.set()
        self._controller.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def mail_directory() -> Path:
    return Path(settings.EMAIL_FILE_PATH)

"""The ring that encrypts stored secrets, and where such secrets are stored.

SLIPWAY["STORED_SECRETS"] lists the columns, "<app>.<Model>.<field>": text or JSON in which there
are Fernet tokens (webhooks.secrets). Tables of tenant apps are in the pool and in each dedicated
schema; of these a tenant's rows count in its home alone, for elsewhere lies what a move between
homes copies or has left behind (lifecycle.moving). Rows are changed one by one, each only if nobody
did meanwhile: that a service wrote it with the new key, or wrote back what the old one encrypted,
is seen by the next look.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from cryptography.fernet import Fernet, InvalidToken
from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, ProgrammingError, connections
from django.db.models.functions import Now
from psycopg import sql

from config.problems import is_moving
from jobs.models import Drainer
from tenants.context import POOL
from tenants.models import Tenant
from tenants.rings import OPERATOR, ListRing, Tell, _silent
from tenants.states import Home
from webhooks import secrets

CHUNK = 500
SILENT = timedelta(seconds=15)  # A drainer that was heard of so long ago is dead.
# A Fernet token: version 0x80 and eight bytes of time, of which the first are zero until 2106.
TOKEN = re.compile(r"gAAAAA[A-Za-z0-9_-]{60,}={0,2}")
_READ = """
select {key}, {column}::text from {table}
where {key} > %s and {column}::text like '%%gAAAAA%%' and {at_home} order by {key} limit %s
"""
_WRITE = "update {table} set {column} = %s::{type} where {key} = %s and {column}::text = %s"
_FIRST = {"uuid": UUID(int=0), "bigint": -(2**63), "integer": -(2**31)}


@dataclass(frozen=True, slots=True)
class Place:
    """One column of one table."""

    schema: str
    table: str
    column: str
    type: str
    key: str
    key_type: str
    at_home: str = "true"  # Condition on a row: its tenant's home is this schema.

    def statement(self, text: str) -> sql.Composed:
        """A statement about it."""
        return sql.SQL(text).format(
            table=sql.Identifier(self.schema, self.table),
            column=sql.Identifier(self.column),
            key=sql.Identifier(self.key),
            type=sql.SQL(self.type),
            at_home=sql.SQL(self.at_home),
        )


class StoredRing(ListRing):
    """STORED_SECRET_KEYS."""

    irreplaceable = True

    def make(self) -> str:
        return Fernet.generate_key().decode()

    def carry(self, tell: Tell = _silent) -> int:
        carried = 0
        for place in places():
            for chunk in _chunks(place):
                count = sum(_renewed(place, key, kept) for key, kept in chunk)
                carried += count
                tell(count)
        return carried

    def needs_old(self) -> str:
        if older := self._older_workers():
            named = ", ".join(older[:5]) + (" …" if len(older) > 5 else "")
            return (
                f"Workers run since before the new key was to be used, and encrypt by the old one:"
                f" {named}. Start them again, and web processes too."
            )
        counts = count_by_key()
        old = sum(many for nth, many in counts.items() if nth not in (0, None))
        lost = f" {counts[None]} more no key of the ring opens." if counts[None] else ""
        if not old:
            return ""
        return f"{old} secrets are encrypted by the old key: run it without --finish.{lost}"

    def _older_workers(self) -> list[str]:
        """Drainers that were begun before the step that had the first key used, and live.

        Of web processes nobody knows when they were begun.
        """
        used_at = self.used_at()
        if used_at is None:
            return []
        rows = Drainer.objects.using(OPERATOR).filter(
            started_at__lt=used_at, dead_at=None, beat_at__gt=Now() - SILENT
        )
        return [str(drainer) for drainer in rows.order_by("id")]


STORED = StoredRing("stored", "STORED_SECRET_KEYS")


def places() -> Iterator[Place]:
    """Every column that holds secrets, in both homes."""
    homes = _homes()
    for path in settings.SLIPWAY["STORED_SECRETS"]:
        label, _, field_name = path.rpartition(".")
        model = apps.get_model(label)
        field, key = model._meta.get_field(field_name), model._meta.pk
        connection = connections[OPERATOR]
        types = str(field.db_type(connection)), str(key.db_type(connection))
        in_homes = model._meta.app_config.name in settings.TENANT_APPS
        column = (model._meta.db_table, field.column, types[0], key.column, types[1])
        for schema, at_home in (homes if in_homes else {"public": "true"}).items():
            yield Place(schema, *column, at_home)


def _homes() -> dict[str, str]:
    """Each schema that is a home, and which of its rows are at home there.

    As it is now: one who moves back to the pool a moment later is still found where they were.
    """
    pooled, dedicated = set(), []
    for tenant_id, schema, home in Tenant.objects.using(OPERATOR).values_list(
        "pk", "schema_name", "home"
    ):
        if home == Home.DEDICATED:
            dedicated.append(tenant_id)
        else:
            pooled.add(schema)
    with connections[OPERATOR].cursor() as cursor:
        cursor.execute(r"select nspname from pg_namespace where nspname ~ '^t_[0-9]+$' order by 1")
        own = [name for (name,) in cursor.fetchall() if name not in pooled]
    elsewhere = ", ".join(map(str, dedicated))
    return {POOL: f"tenant_id <> all(array[{elsewhere}]::bigint[])"} | dict.fromkeys(own, "true")


def count_by_key() -> Counter[int | None]:
    """How many stored secrets each key opens, by its place in the ring; None: no key does."""
    ring = [Fernet(key) for key in settings.STORED_SECRET_KEYS]
    counts: Counter[int | None] = Counter()
    for place in places():
        for chunk in _chunks(place):
            for _, kept in chunk:
                counts.update(_opener(token, ring) for token in TOKEN.findall(kept))
    return counts


def _opener(token: str, ring: list[Fernet]) -> int | None:
    for nth, key in enumerate(ring):
        try:
            key.decrypt(token.encode())
        except InvalidToken:
            continue
        return nth
    return None


def _chunks(place: Place) -> Iterator[list[tuple[Any, str]]]:
    after: Any = _FIRST.get(place.key_type.split()[0], "")
    statement = place.statement(_READ)
    while True:
        try:
            with connections[OPERATOR].cursor() as cursor:
                cursor.execute(statement, [after, CHUNK])
                rows = list(cursor.fetchall())
        except ProgrammingError as error:
            if isinstance(error.__cause__, psycopg.errors.UndefinedTable):
                return  # The tenant was closed meanwhile, or moved: its schema is gone.
            raise
        if rows:
            yield rows
            after = rows[-1][0]
        if len(rows) < CHUNK:
            return


def _renewed(place: Place, key: Any, kept: str) -> bool:
    """Encrypt what one row holds by the newest key; whether that changed it.

    A row whose tenant has just moved is refused: it is carried over where it is now, by the next.
    """
    newest = [Fernet(settings.STORED_SECRET_KEYS[0])]

    def renew(found: re.Match[str]) -> str:
        token = found[0]
        if _opener(token, newest) == 0:
            return token
        try:
            return secrets.renew(token)
        except secrets.KeyLost:
            return token  # `doctor` tells of it.

    changed = TOKEN.sub(renew, kept)
    if changed == kept:
        return False
    try:
        with connections[OPERATOR].cursor() as cursor:
            cursor.execute(place.statement(_WRITE), [changed, key, kept])
            return bool(cursor.rowcount)
    except DatabaseError as error:
        if is_moving(error):
            return False
        raise

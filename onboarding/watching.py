"""Watching sign-ups for the stream process.

The look is slipway.onboarding_by_request for each watched id, in one statement, as the app role and
for no tenant: what nobody may see cannot be streamed by mistake.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg

from config.watching import Watcher
from onboarding.status import COLUMNS, SignUpRow, read_row
from tenants.postgres.connections import conninfo

_LOOK = f"""
select {", ".join("s." + name.strip() for name in COLUMNS.split(","))}
from unnest(%s::uuid[]) wanted cross join lateral slipway.onboarding_by_request(wanted) s
"""  # noqa: S608 - constants.


class SignUpWatcher(Watcher[UUID, SignUpRow]):
    """Sign-ups by their request ids."""

    async def connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(**conninfo("default"), autocommit=True)

    async def find(
        self, connection: psycopg.AsyncConnection[Any], keys: Sequence[UUID]
    ) -> Mapping[UUID, SignUpRow]:
        cursor = await connection.execute(_LOOK, [list(keys)])
        return {row[0]: read_row(row) async for row in cursor}

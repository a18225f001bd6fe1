"""A transaction in as few trips to the server as it has statements.

After each trip the answer waits for the loop's turn, in a busy drainer for longer than the database
took. So BEGIN travels with the first statement and COMMIT with the last: the simple protocol takes
several in one message, with values as literals (psycopg quotes them). What is asked often is
prepared by name, and run with EXECUTE; such statements keep their plans as long as the connection
allows (jobs.engine.link).
"""

import contextlib
import itertools
from collections.abc import Mapping
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.pq import TransactionStatus

_numbers = itertools.count(1)
# A connection's prepared statements: from the statement to the EXECUTE that runs it.
_prepared: WeakKeyDictionary[AsyncConnection[Any], dict[str, str]] = WeakKeyDictionary()


class Transaction:
    """A transaction of `connection`, which is in autocommit.

    An `async with` block that ends without having said which statement was the last commits, and
    one that raises rolls back. In a transaction that is open already it is a savepoint.
    """

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._cursor = AsyncClientCursor(connection)
        idle = connection.info.transaction_status == TransactionStatus.IDLE
        self._within = "" if idle else " engine"  # The name of the savepoint.
        self._is_open = False

    async def __aenter__(self) -> "Transaction":
        return self

    async def rows(
        self, statement: str, values: Mapping[str, Any], *, last: bool = False
    ) -> list[Any]:
        """What a statement returns, which is prepared the first time; COMMIT follows the `last`."""
        text = await self._execute(statement)
        began, self._is_open = self._is_open, True
        if not began:
            text = f"{self._begin};{text}"
        await self._cursor.execute(f"{text};{self._commit}" if last else text, values)
        if not began:
            self._cursor.nextset()
        rows = await self._cursor.fetchall()
        self._is_open = not last
        return rows

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if not self._is_open:
            return
        if error is None:
            await self._cursor.execute(self._commit)
            return
        with contextlib.suppress(psycopg.Error):  # The connection may be what was lost.
            await self._cursor.execute(f"rollback to{self._within}" if self._within else "rollback")

    @property
    def _begin(self) -> str:
        return f"savepoint{self._within}" if self._within else "begin"

    @property
    def _commit(self) -> str:
        return f"release{self._within}" if self._within else "commit"

    async def _execute(self, statement: str) -> str:
        """The EXECUTE of a statement whose values are named as psycopg's are."""
        known = _prepared.setdefault(self._connection, {})
        if statement not in known:
            name, numbers = f"engine_{next(_numbers)}", _Numbers()
            await self._cursor.execute(f"prepare {name} as {statement % numbers}")
            values = ", ".join(f"%({value})s" for value in numbers)
            known[statement] = f"execute {name}({values})"
        return known[statement]


class _Numbers(dict[str, str]):
    """What stands for each value in a prepared statement, in the order of their first use."""

    def __missing__(self, name: str) -> str:
        self[name] = f"${len(self) + 1}"
        return self[name]

"""The engine's transactions, in few trips: on a real connection of the engine's."""

import psycopg
import pytest
from psycopg import AsyncClientCursor
from psycopg.pq import TransactionStatus

from jobs.engine.transaction import Transaction

ECHO = "select %(text)s::text, %(many)s::bigint[], %(texts)s::text[], %(many)s::bigint[]"
COUNT = "select count(*) from jobs_drainer where host = %(host)s"
ADD = "insert into jobs_drainer (host, pid) values (%(host)s, 1) returning pid"
HOST = {"host": "transacted"}


@pytest.fixture
def sent(monkeypatch):
    """What is sent to the server, each a trip."""
    seen, execute = [], AsyncClientCursor.execute

    def listening(cursor, query, *args):
        seen.append(query)
        return execute(cursor, query, *args)

    monkeypatch.setattr(AsyncClientCursor, "execute", listening)
    return seen


def counted(engine) -> int:
    async def count():
        cursor = await engine.connection.execute(COUNT, HOST)
        return (await cursor.fetchone())[0]

    return engine.run(count())


def status(engine) -> TransactionStatus:
    return engine.connection.info.transaction_status


@pytest.mark.parametrize("text", ["", "plain", "it's \\ %s %(x)s $1; commit", "ü\n\t☃"])
def test_values_arrive_as_they_were(engine, text):
    values = {"text": text, "many": [1, 2**40], "texts": [text, "{,}", "null", '"']}

    async def run():
        async with Transaction(engine.connection) as transaction:
            return await transaction.rows(ECHO, values, last=True)

    assert engine.run(run()) == [(text, [1, 2**40], values["texts"], [1, 2**40])]


def test_an_empty_list_and_nulls_arrive_as_such(engine):
    values = {"text": None, "many": [], "texts": []}

    async def run():
        async with Transaction(engine.connection) as transaction:
            return await transaction.rows(ECHO, values)

    assert engine.run(run()) == [(None, [], [], [])]


def test_it_takes_as_many_trips_as_statements_once_they_are_prepared(engine, sent):
    async def run():
        async with Transaction(engine.connection) as transaction:
            await transaction.rows(ADD, HOST)
            return await transaction.rows(COUNT, HOST, last=True)

    engine.run(run())
    sent.clear()
    assert engine.run(run()) == [(2,)]
    assert len(sent) == 2
    assert status(engine) == TransactionStatus.IDLE
    assert counted(engine) == 2


def test_a_block_that_ends_early_commits(engine):
    async def run():
        async with Transaction(engine.connection) as transaction:
            await transaction.rows(ADD, HOST)

    engine.run(run())
    assert status(engine) == TransactionStatus.IDLE
    assert counted(engine) == 1


@pytest.mark.parametrize("wrong", [False, True])
def test_whoever_raises_rolls_back(engine, wrong):
    async def run():
        async with Transaction(engine.connection) as transaction:
            await transaction.rows(ADD, HOST)
            if wrong:
                await transaction.rows("select 1 / %(nothing)s::int", {"nothing": 0}, last=True)
            raise LookupError

    with pytest.raises(psycopg.errors.DivisionByZero if wrong else LookupError):
        engine.run(run())
    assert status(engine) == TransactionStatus.IDLE
    assert counted(engine) == 0


def test_a_first_statement_that_fails_leaves_no_transaction_open(engine):
    async def run():
        async with Transaction(engine.connection) as transaction:
            await transaction.rows("select 1 / %(nothing)s::int", {"nothing": 0})

    with pytest.raises(psycopg.errors.DivisionByZero):
        engine.run(run())
    assert status(engine) == TransactionStatus.IDLE


def test_within_another_transaction_it_is_a_part_of_it(engine):
    async def add(error=None):
        async with Transaction(engine.connection) as transaction:
            await transaction.rows(ADD, HOST, last=error is None)
            if error:
                raise error

    async def run():
        async with engine.connection.transaction():
            await add()
            with pytest.raises(LookupError):
                await add(LookupError())
            await add()

    engine.run(run())
    assert counted(engine) == 2


def test_a_connection_that_is_lost_says_so(engine):
    async def run():
        async with Transaction(engine.connection) as transaction:
            await transaction.rows(ADD, HOST)
            await engine.connection.close()
            await transaction.rows(COUNT, HOST, last=True)

    with pytest.raises(psycopg.OperationalError):
        engine.run(run())

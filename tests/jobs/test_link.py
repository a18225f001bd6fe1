"""What a drainer's connection reads in one turn of the loop."""

import asyncio
import contextlib
import socket

import pytest
from psycopg.waiting import Ready, Wait

from jobs.engine import link
from jobs.engine.link import AT_ONCE, Link, _at_once


@pytest.fixture
def ends():
    mine, theirs = socket.socketpair()
    with mine, theirs:
        yield mine, theirs


def reading(source: socket.socket, until: int):
    """As libpq reads an answer: a piece at a time, until there are so many."""
    read = 0
    while read < until:
        assert (yield Wait.R) & Ready.R
        read += len(source.recv(1))
    return read


def waits(reader) -> int:
    """How often it waits for the loop until it is done; the answer is there each time."""
    count, wanted = 1, next(reader)
    with contextlib.suppress(StopIteration):
        while True:
            wanted = reader.send(Ready(wanted))
            count += 1
    return count


def test_all_that_has_arrived_is_read_in_one_turn(ends):
    mine, theirs = ends
    theirs.send(b"x" * AT_ONCE)
    assert waits(_at_once(reading(mine, AT_ONCE), mine.fileno())) == 1


def test_an_endless_answer_gives_the_others_their_turn(ends):
    mine, theirs = ends
    many = 10 * (AT_ONCE + 1)
    theirs.send(b"x" * many)
    assert waits(_at_once(reading(mine, many), mine.fileno())) == 10


def test_what_has_not_arrived_is_waited_for(ends):
    mine, theirs = ends
    reader = _at_once(reading(mine, 2), mine.fileno())
    assert next(reader) == Wait.R
    theirs.send(b"x")
    assert reader.send(Ready.R) == Wait.R  # One was there.
    theirs.send(b"x")
    with pytest.raises(StopIteration):
        reader.send(Ready.R)


def test_a_large_answer_arrives_whole(engine):
    async def ask(connection):
        cursor = await connection.execute("select repeat('x', n) from generate_series(1, 2000) n")
        return await cursor.fetchall()

    async def run():
        one = Link("test")
        try:
            return await one.run(ask)
        finally:
            await one.close()

    assert [len(text) for (text,) in engine.run(run())] == list(range(1, 2001))


def test_a_statement_that_is_cancelled_leaves_the_connection_usable(engine):
    async def run():
        async with await link.Connection.connect(**link.parameters("test")) as connection:
            loop = engine.loop
            asleep = loop.create_task(connection.execute("select pg_sleep(60)"))
            loop.call_later(0.2, asleep.cancel)
            with pytest.raises(asyncio.CancelledError):
                await asleep
            return await (await connection.execute("select 1")).fetchall()

    assert engine.run(run()) == [(1,)]

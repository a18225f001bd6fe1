"""Lookups that hang: they count against the call's time, and keep nobody else waiting."""

import asyncio
import socket
import threading
import time

import pytest
import uvloop

from webhooks import lookups
from webhooks.answers import CallFailed, Kind
from webhooks.http import Client


@pytest.fixture
def hanging():
    """A lookup that never returns for names under hang.example, and finds the receiver else."""
    end = threading.Event()

    def lookup(host, port):
        if host.endswith("hang.example"):
            end.wait(30)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    yield lookup
    end.set()


def test_a_lookup_that_hangs_holds_neither_the_loop_nor_the_call(receiver, hanging, settings):
    port = receiver.ports["http"]
    settings.WEBHOOK_OPEN_DESTINATIONS = [("quick.example", port)]

    async def calls():
        client = Client(lookup=hanging)
        started = time.monotonic()
        slow = [
            asyncio.create_task(post(client, f"https://{n}.hang.example/"))
            for n in range(lookups.THREADS - 1)
        ]
        answer = await client.post(
            url=f"http://quick.example:{port}/t/ok", body=b"", headers={}, timeout=5
        )
        quick = time.monotonic() - started
        errors = await asyncio.gather(*slow)
        await client.close()
        return answer, quick, errors, time.monotonic() - started

    async def post(client, url):
        with pytest.raises(CallFailed) as failed:
            await client.post(url=url, body=b"", headers={}, timeout=0.5)
        return failed.value

    answer, quick, errors, all_of_it = uvloop.run(calls())
    assert answer.status == 200
    assert quick < 0.4
    assert all_of_it < 2
    assert {(error.kind, error.sent) for error in errors} == {(Kind.DNS, False)}


def test_a_name_that_was_slow_waits_for_others_like_it_alone(hanging, monkeypatch):
    monkeypatch.setattr(lookups, "LONGEST", 0.1)  # The clock, in effect.
    asked = lookups.Lookups(hanging)
    for _ in range(lookups.THREADS + 1):  # Each but the first waits among the slow.
        with pytest.raises(TimeoutError):
            asked.wait("a.hang.example", 443, 1)
    assert asked.wait("quick.example", 443, 1)
    asked.close()

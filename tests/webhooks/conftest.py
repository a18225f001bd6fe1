import socket
from collections.abc import Iterator

import pytest

from tests import receiving
from tests.jobs.conftest import withdraw_everything
from tests.receiving import Receiver
from tests.webhooks.hooks import Hooks


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """A misbehaving receiver, whose host:port pairs are open to webhooks."""
    started = receiving.start()
    with receiving.opened(started):
        yield started
    started.stop()


@pytest.fixture
def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def hooks(receiver, tenant, monkeypatch) -> Hooks:
    """A tenant with endpoints at the receiver, where nothing else is to be delivered."""
    withdraw_everything()
    monkeypatch.setattr("jobs.engine.drainer.POLL", 0.05)  # What is due is not waited for.
    return Hooks(receiver, tenant)

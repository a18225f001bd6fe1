"""One `make up` for the flows of a worker: each is another stranger's, or another tenant's."""

from collections.abc import Iterator

import pytest

from tests.flows.stranger import Stranger
from tests.upping import Up, end, free_ports, left_behind, wait


@pytest.fixture(scope="session")
def receiver_port() -> int:
    """Where the flows' receivers listen, to which webhooks are let."""
    return free_ports()


@pytest.fixture(scope="session")
def running(tmp_path_factory, receiver_port) -> Iterator[Up]:
    state = tmp_path_factory.mktemp("flows") / "state"
    one = Up(state, free_ports(), WEBHOOK_OPEN_DESTINATIONS=f"127.0.0.1:{receiver_port}")
    try:
        one.wait_ready()
        yield one
    finally:
        one.process.kill()
        one.process.wait()
        wait(lambda: not left_behind(state) or end(left_behind(state)))


@pytest.fixture
def stranger(running) -> Stranger:
    return Stranger(running)

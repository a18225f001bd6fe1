"""Drainers that serve other queues than deliveries as well: notices and moves are jobs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from jobs.engine.drainer import Drainer
from jobs.registry import queue


@contextmanager
def serving(*names: str) -> Iterator[Drainer]:
    """A drainer of these queues, in this process, while the block runs."""
    died: list[str] = []
    loop = Drainer(served={name: queue(name) for name in names}, on_death=died.append)
    thread = threading.Thread(target=uvloop.run, args=[loop.run()])
    thread.start()
    try:
        yield loop
    finally:
        loop.stop()
        thread.join()
    assert died == []

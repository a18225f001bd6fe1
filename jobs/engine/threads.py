"""Threads for synchronous steps: as many as are busy at once, and able to lose one.

A thread cannot be stopped. One that outlives its step's deadline is written off: it is not waited
for, and its end changes nothing. Too many of them end the process (the drainer decides).
"""

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")

_pool: contextvars.ContextVar["Threads"] = contextvars.ContextVar("threads")


class Threads:
    """Runs functions on daemon threads, reusing those that are idle.

    The bound is the caller's: a drainer's slots.
    """

    def __init__(self) -> None:
        self.written_off = 0
        self._idle: deque[_Thread] = deque()

    def use(self) -> None:
        """Let steps that run in the current context find this pool: call()."""
        _pool.set(self)

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call `function` on a thread, in a copy of this context; if cancelled, write it off."""
        thread = self._idle.pop() if self._idle else _Thread()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            if future.cancelled():  # Written off, and back after all.
                self.written_off -= 1
            elif error is not None:
                # A future cannot carry StopIteration, and must not carry SystemExit to the loop.
                future.set_exception(StepDied(error))
            else:
                future.set_result(result)  # type: ignore[arg-type]
            self._idle.append(thread)

        def report(result: T | None, error: BaseException | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(done, result, error)

        thread.do(contextvars.copy_context(), function, args, report)
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():
                self.written_off += 1
            raise


class StepDied(Exception):
    """A function on a thread raised; `args[0]` is what."""


class _Thread:
    """One daemon thread that does what it is given, one thing after another."""

    def __init__(self) -> None:
        self._given: Any = None
        self._wake = threading.Semaphore(0)
        threading.Thread(target=self._run, name="step", daemon=True).start()

    def do(self, context: contextvars.Context, *given: Any) -> None:
        self._given = (context, *given)
        self._wake.release()

    def _run(self) -> None:
        while True:
            self._wake.acquire()
            context, function, args, report = self._given
            result, error = None, None
            try:
                result = context.run(function, *args)
                connections.close_all()  # A step gives its connection back: none waits in a thread.
            except BaseException as raised:  # A step may raise anything, SystemExit too.
                error = raised
                with contextlib.suppress(Exception):
                    connections.close_all()
            self._given = context = function = args = None
            report(result, error)
            del report, result, error


def current() -> Threads:
    """The pool of the drainer that runs this step."""
    return _pool.get()

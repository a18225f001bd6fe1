"""The drainer as a part of the Celery worker: started, stopped and scaled with it.

It needs the worker and not the broker: with Redis away the loop runs on. Asked by
`celery -A config inspect drainer`.
"""

import asyncio
import threading
from typing import Any

import structlog
import uvloop
from celery import bootsteps
from celery.worker.control import inspect_command

from jobs.engine import beat, interpreter
from jobs.engine.drainer import Drainer

log = structlog.get_logger(__name__)

_running: Drainer | None = None


class DrainerStep(bootsteps.StartStopStep):
    """Runs one drainer loop in a thread of the worker's main process."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._thread: threading.Thread | None = None
        self._drainer: Drainer | None = None

    def create(self, worker: Any) -> "DrainerStep":  # type: ignore[override]
        return self  # What Celery then starts and stops.

    def start(self, worker: Any) -> None:
        global _running
        self._drainer = _running = Drainer()
        interpreter.prepare()
        self._thread = threading.Thread(target=run_or_end, args=[self._drainer], name="drainer")
        self._thread.start()

    def close(self, worker: Any) -> None:
        """SIGTERM came: claim no more, while the worker's other parts finish."""
        if self._drainer is not None:
            self._drainer.stop()

    def stop(self, worker: Any) -> None:
        """Wait until running steps are finished; their deadlines bound it."""
        self.close(worker)
        if self._thread is not None:
            self._thread.join()

    def terminate(self, worker: Any) -> None:
        """The second signal: go now. The works are rescued by others."""
        self.close(worker)


def run_or_end(drainer: Drainer) -> None:
    """Run the loop; whatever it dies of, no worker lives on without it."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(drainer.run())
    except BaseException:
        log.exception("drainer_failed", drainer=drainer.id)
        beat.end_process("its loop failed")


@inspect_command()
def drainer(state: Any) -> dict[str, Any]:
    """What this worker's drainer is doing."""
    if _running is None:
        return {"running": False}
    return {"running": True, "id": _running.id, "busy": _running.busy, "slots": _running.slots}

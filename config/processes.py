"""The processes of the Procfile, kept running: one that dies is started again.

A stop waits for them as long as the longest step may take, since a worker finishes what it has
begun. (honcho would kill it after five seconds.) Idle costs nothing: the loop waits for signals.
"""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from config.embedded.server import end_with_us, let_go

MARK = "SLIPWAY_SUPERVISED"  # In the environment of every process: the state directory it serves.
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0  # Seconds before a process that died is started again.
STEADY = 30.0  # Seconds after which a process counts as running well.
POLL = 0.1  # Seconds between two looks while something is waited for.


@dataclass
class Child:
    """One line of the Procfile, and the process that runs it."""

    name: str
    command: str
    process: subprocess.Popen[bytes] | None = None
    watchdog: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    delay: float = FIRST_DELAY
    restart_at: float | None = None


@dataclass
class Supervisor:
    """Starts children, starts again those that die, and stops them all."""

    commands: Mapping[str, str]
    environment: Mapping[str, str]
    directory: Path
    logs: Path
    grace: float  # Seconds that a stop waits for the children.
    say: Callable[[str], None]
    children: list[Child] = field(default_factory=list)
    stopping: int = 0  # How often a stop was asked for; the second time means now.

    def run(self, *, probe: Callable[[], bool]) -> None:
        """Run until SIGINT, SIGTERM or SIGHUP. `probe` is asked until it says that all is well."""
        with self._signals() as wake:
            self.children = [Child(name, command) for name, command in self.commands.items()]
            for child in self.children:
                self._start(child)
            well = False
            while not self.stopping:
                _sleep(wake, self._until_restart() if well else POLL)
                self._tend()
                well = well or (not self.stopping and probe())
            self._stop(wake)

    def _start(self, child: Child) -> None:
        """In a session of its own: Ctrl-C is for us, and what it leaves behind can be found."""
        child.restart_at = None
        child.started_at = time.monotonic()
        with (self.logs / f"{child.name}.log").open("ab") as log:
            child.process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {child.command}"],
                cwd=self.directory,
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        child.watchdog = end_with_us(child.process.pid, signal.SIGTERM)

    def _tend(self) -> None:
        """Reap who died, start again whose time has come."""
        for child in self.children:
            if child.process is not None and child.process.poll() is not None:
                self._bury(child)
            if child.restart_at is not None and time.monotonic() >= child.restart_at:
                self._start(child)

    def _bury(self, child: Child) -> None:
        """Clear away what a dead child left, and say when it will be started again."""
        process = child.process
        if process is None:
            return
        let_go(child.watchdog)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # Its own children would hold its port.
        child.process = child.watchdog = None
        if self.stopping:
            return
        if time.monotonic() - child.started_at > STEADY:
            child.delay = FIRST_DELAY
        child.restart_at = time.monotonic() + child.delay
        log = self.logs / f"{child.name}.log"
        how = _ended(process.returncode)
        self.say(f"{child.name} {how}; it starts again in {child.delay:g} s ({log})")
        child.delay = min(child.delay * 2, LONGEST_DELAY)

    def _stop(self, wake: int) -> None:
        """SIGTERM to all at once; SIGKILL after the grace, or when asked a second time."""
        for child in self._living():
            _signal(child, signal.SIGTERM)
        deadline = time.monotonic() + self.grace
        asked = self.stopping
        while self._living() and time.monotonic() < deadline and self.stopping == asked:
            _sleep(wake, POLL)
            self._tend()
        for child in self._living():
            self.say(f"{child.name} is ended with SIGKILL.")
            _signal(child, signal.SIGKILL)
            if child.process is not None:
                child.process.wait()
        self._tend()

    def _living(self) -> list[Child]:
        return [child for child in self.children if child.process is not None]

    def _until_restart(self) -> float | None:
        times = [child.restart_at for child in self.children if child.restart_at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    @contextmanager
    def _signals(self) -> Iterator[int]:
        """Signals end the sleep through a pipe, which a child's death does too."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        ours = dict.fromkeys(STOP_SIGNALS, self._ask_to_stop)
        handlers = {number: signal.signal(number, handler) for number, handler in ours.items()}
        handlers[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, _wake_only)
        try:
            yield read
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            os.close(read)
            os.close(write)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping += 1


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def procfile(path: Path) -> dict[str, str]:
    """The lines `name: command`, without comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return {name.strip(): command.strip() for name, _, command in pairs}


def end_leftovers(mark: str, *, patience: float, say: Callable[[str], None]) -> None:
    """End what a killed supervisor of the same directory left behind.

    Each of its processes bears the directory in its environment: no recycled pid can fake that.
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
    for process in found:
        say(f"Ending process {process.pid}, left behind by a run that was killed.")
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=patience)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=patience)


def _signal(child: Child, number: signal.Signals) -> None:
    if child.process is not None:
        with suppress(ProcessLookupError):
            child.process.send_signal(number)


def _sleep(wake: int, seconds: float | None) -> None:
    """Until a signal comes, at most so long."""
    select.select([wake], [], [], seconds)
    with suppress(BlockingIOError):
        while os.read(wake, 512):
            pass


def _wake_only(number: int, frame: FrameType | None) -> None:
    """A handler must be there, or the signal would not reach the pipe."""


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

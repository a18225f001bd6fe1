"""What the embedded servers share: a directory, a lock, a process that ends with its starter."""

import atexit
import fcntl
import hashlib
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SOCKET_PATH_LIMIT = 103  # Bytes of sun_path without its NUL: 107 on Linux, 103 on macOS.
START_TIMEOUT = 60.0  # Seconds; crash recovery after a kill -9 is part of a start.
STOP_TIMEOUT = 30.0  # Seconds; then the server is killed.
POLL = 0.02  # Seconds between two looks at a server that starts or stops.


class EmbeddedError(Exception):
    """An embedded server cannot start, and the message says why."""


class Server:
    """One server over one directory. Any number of handles, in any process, may name it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.absolute()
        self.log = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._starter = 0

    @property
    def pid(self) -> int | None:
        """The server's process id, whoever started it; None when it does not run."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server and wait until it answers. Does nothing when it already runs."""
        raise NotImplementedError

    def _socket_dir(self, socket_name: str) -> Path:
        """Where the socket goes: our directory, or a short one when that path is too long."""
        directory = self.directory / "socket"
        if len(os.fsencode(directory / socket_name)) <= SOCKET_PATH_LIMIT:
            return directory
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
        return Path(f"/tmp/slipway-{os.geteuid()}-{digest}")  # noqa: S108  # fixed: all processes must agree on it

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process (or thread) at a time starts or stops the server of this directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _launch(
        self, command: list[str], *, user: pwd.struct_passwd | None, end: signal.Signals
    ) -> None:
        """Start the process out of Ctrl-C's reach, and have it ended when we end."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                **as_user(user),
            )
        self._watchdog = end_with_us(self._process.pid, end)
        self._starter = os.getpid()
        atexit.register(self._stop_at_exit)

    def stop(self) -> None:
        """Stop the server, whoever started it."""
        raise NotImplementedError

    def _stop_at_exit(self) -> None:
        if self._process is not None and os.getpid() == self._starter:  # Not in a forked child.
            self.stop()

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _wait_gone(self, pid: int, timeout: float) -> bool:
        """Wait until the process has ended, and reap it when it is ours; False when it has not."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self._has_ended(pid):
                self._forget()
                return True
            time.sleep(POLL)
        return False

    def _has_ended(self, pid: int) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is not None
        return not is_alive(pid)

    def _forget(self) -> None:
        """Let go of the process that ended, and of its watchdog before the pid can be reused."""
        let_go(self._watchdog)
        self._process = self._watchdog = None
        atexit.unregister(self._stop_at_exit)

    def _wait_ready(self, answers: Callable[[], bool]) -> None:
        """Wait until the launched server answers; EmbeddedError, with its last words, otherwise."""
        deadline = time.monotonic() + START_TIMEOUT
        while not answers():
            died = self._process is None or self._process.poll() is not None
            if died or time.monotonic() > deadline:
                self.kill()
                why = "ended" if died else f"did not answer within {START_TIMEOUT:.0f} s"
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                name = type(self).__name__
                raise EmbeddedError(f"The embedded {name} {why}. The end of {self.log}:\n{tail}")
            time.sleep(POLL)

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would."""
        pid = self._process.pid if self._process is not None else self.pid
        if pid is None:
            self._forget()
            return
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self._wait_gone(pid, STOP_TIMEOUT)

    def restart(self) -> None:
        """Stop and start again; data and addresses stay."""
        self.stop()
        self.start()


def end_with_us(pid: int, number: signal.Signals) -> subprocess.Popen[bytes]:
    """Have a process signalled when this one goes away, however it goes.

    A shell waits on a pipe that only we hold open. (PR_SET_PDEATHSIG would fire when the *thread*
    that started the server ends, and Linux alone has it.)
    """
    script = 'read _; kill -"$1" "$2"'
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "slipway-watchdog", number.name.removeprefix("SIG"), str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def let_go(watchdog: subprocess.Popen[bytes] | None) -> None:
    """Dismiss the watchdog of a process that has ended, before its pid means another one."""
    if watchdog is not None:
        watchdog.kill()
        watchdog.wait()
        if watchdog.stdin is not None:
            watchdog.stdin.close()


def as_user(user: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments for Popen that give up root's rights for good."""
    if user is None:
        return {}
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def own_directory(path: Path, user: pwd.struct_passwd | None) -> None:
    """Make a directory that belongs to the server's user; refuse one of somebody else's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    owner = os.lstat(path).st_uid
    wanted = user.pw_uid if user is not None else os.geteuid()
    if path.is_symlink() or owner not in (wanted, os.geteuid()):
        raise EmbeddedError(f"{path} belongs to another user; remove it or set SLIPWAY_STATE_DIR.")
    if owner != wanted and user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def processes_in(directory: Path, name: str) -> list[int]:
    """Processes of that program that work in the directory: what a recycled pid cannot fake."""
    import psutil

    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error, OSError):
            ours = process.info["name"] == name and Path(process.cwd()) == directory.resolve()
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def is_alive(pid: int) -> bool:
    import psutil

    with suppress(psutil.NoSuchProcess):
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    return False


def packaged(package: str, pattern: str) -> Path:
    """A file in an installed package, found without importing the package."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"{package} is not installed; install slipway[embedded] or set its URL."
        )
    found = sorted(Path(spec.origin).parent.glob(pattern))
    if not found:
        raise EmbeddedError(f"{package} has no {pattern} for this machine.")
    return found[0]

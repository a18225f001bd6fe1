"""`make up`: everything on one machine, from nothing to a line that begins with `ready`.

It stays lean, since it lives as long as Slipway does: it reads the settings and never loads Django.
What needs Django (`manage.py prepare`) and what serves run as its children.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from itertools import combinations
from pathlib import Path
from shlex import quote
from types import FrameType
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured

from config.embedded import EmbeddedError, Postgres, Valkey
from config.embedded.secrets import make_state_dir
from config.embedded.server import Server
from config.processes import MARK, Supervisor, end_leftovers, procfile

LOG_LIMIT = 10_000_000  # Bytes of a process's log; a start moves a longer one aside.
PATIENCE = 5.0  # Seconds that what a killed run left behind gets to end by itself.
SLOW = 45.0  # Seconds after which it is said what is still waited for.


class CannotStart(Exception):
    """Slipway cannot start; the message says why, and what to do."""


def main() -> int:
    """Run until Ctrl-C. The exit code: 0 after a stop, 1 when it could not start."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        settings = import_module(os.environ.get("DJANGO_SETTINGS_MODULE", "config.settings"))
        with ExitStack() as running:
            _run(settings, running)
    except (ImproperlyConfigured, EmbeddedError, CannotStart) as error:
        say(f"Slipway cannot start: {error}")
        return 1
    except KeyboardInterrupt:
        say("Stopped.")
    return 0


def _run(settings: Any, running: ExitStack) -> None:
    started = time.monotonic()
    state = make_state_dir(settings.STATE_DIR)
    running.enter_context(only_one(state))
    end_leftovers(str(state), patience=PATIENCE, say=say)
    refuse_busy_ports(ports(settings))
    postgres = _start_servers(settings, running)
    environment = child_environment(settings)
    _prepare(settings, environment, postgres)
    supervisor = Supervisor(
        commands=commands(settings),
        environment=environment,
        directory=settings.BASE_DIR,
        logs=_log_directory(state),
        grace=max(spec["deadline"] for spec in settings.SLIPWAY["QUEUES"].values()) + 10,
        say=say,
    )
    supervisor.run(probe=Probe(settings, started))
    say("Stopped.")


def say(text: str) -> None:
    """One line for the person at the terminal."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the state directory. The lock goes with the process, however that ends."""
    with (state / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip()
            raise CannotStart(
                f"it already runs on {state} (process {holder}). Stop that one, or say another"
                " SLIPWAY_STATE_DIR and PORT."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def ports(settings: Any) -> dict[str, int]:
    """Where the children listen, by variable."""
    sandbox = {"SANDBOX_PORT": settings.SANDBOX_PORT} if settings.SANDBOX_PORT else {}
    return {"PORT": settings.PORT, "STREAM_PORT": settings.STREAM_PORT, **sandbox}


def refuse_busy_ports(wanted: Mapping[str, int]) -> None:
    """Raises CannotStart with the way out."""
    for one, other in combinations(wanted, 2):
        if wanted[one] == wanted[other]:
            raise CannotStart(f"{one} and {other} are both {wanted[one]}.")
    for name, number in wanted.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError as error:
                raise CannotStart(
                    f"port {number} is not free ({error.strerror}). Say another:"
                    f" {name}={number + 10} make up"
                ) from None


def _start_servers(settings: Any, running: ExitStack) -> Postgres | None:
    """Start the servers that no variable names. One that a killed run left is stopped first."""
    postgres = Postgres(settings.STATE_DIR / "postgres")
    servers: list[Server] = []
    if settings.EMBEDDED:
        servers.append(postgres)
    if "REDIS_URL" in settings.GENERATED:
        servers.append(Valkey(settings.STATE_DIR / "valkey"))
    for server in servers:
        server.stop()
        running.callback(server.stop)
        server.start()
    return postgres if settings.EMBEDDED else None


def child_environment(settings: Any) -> dict[str, str]:
    """What the children start with: they find out for themselves what nobody set."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in settings.GENERATED
    }
    tools = Path(sys.executable).parent
    return {
        **inherited,
        "PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PORT": str(settings.PORT),
        "STREAM_PORT": str(settings.STREAM_PORT),
        "SANDBOX_PORT": str(settings.SANDBOX_PORT),
        "SLIPWAY_STATE_DIR": str(settings.STATE_DIR),
        MARK: str(settings.STATE_DIR),
    }


def commands(settings: Any) -> dict[str, str]:
    """The Procfile's lines; without a broker the drainer runs alone, and nothing is periodic.

    A sandbox is no part of the Procfile, since nobody should run one by mistake.
    """
    lines = procfile(settings.BASE_DIR / "Procfile")
    if settings.SANDBOX_PORT:
        lines["sandbox"] = sandbox(settings)
    if settings.BROKER == "none":
        del lines["beat"]
        lines["worker"] = "python manage.py drain"
    return lines


def sandbox(settings: Any) -> str:
    """The command of a provider to try, which tells Slipway what became of messages."""
    callbacks = {
        "url": f"{settings.PUBLIC_URL}/v1/callbacks/{{account}}",
        "delay": {"kind": "uniform", "least": 0.5, "most": 3},
        "read": 0.5,
        "failed": 0.01,
    }
    profile = {"latency": {"kind": "lognormal", "p50": 0.2, "p99": 1}, "callbacks": callbacks}
    words = ["--port", str(settings.SANDBOX_PORT), "--profile", quote(json.dumps(profile))]
    return " ".join(["python -m campaigns.sandbox", *words])


def _prepare(settings: Any, environment: Mapping[str, str], postgres: Postgres | None) -> None:
    """Roles, migrations, the operator's account, the platform key."""
    command = [sys.executable, "manage.py", "prepare"]
    own = {"SUPERUSER_DATABASE_URL": postgres.superuser_conninfo()} if postgres else {}
    done = subprocess.run(command, cwd=settings.BASE_DIR, env={**environment, **own}, check=False)
    if done.returncode != 0:
        raise CannotStart("`manage.py prepare` failed; what it said stands above.")


def _log_directory(state: Path) -> Path:
    logs = state / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    for log in logs.glob("*.log"):
        if log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
    return logs


class Probe:
    """Asks whether all of it answers, and says so once."""

    def __init__(self, settings: Any, started: float) -> None:
        self._settings = settings
        self._started = started
        self._slow_at = time.monotonic() + SLOW

    def __call__(self) -> bool:
        missing = [name for name, answers in self._questions().items() if not answers()]
        if not missing:
            say(banner(self._settings, took=time.monotonic() - self._started))
            return True
        if time.monotonic() > self._slow_at:
            self._slow_at = float("inf")
            logs = self._settings.STATE_DIR / "logs"
            say(f"Still waiting for {', '.join(missing)}; see {logs}.")
        return False

    def _questions(self) -> dict[str, Callable[[], bool]]:
        sandbox = {"sandbox": self._is_sandbox_there} if self._settings.SANDBOX_PORT else {}
        return {"web and worker": self._is_ready, "stream": self._streams, **sandbox}

    def _is_ready(self) -> bool:
        status, body = ask(self._settings.PORT, "/readyz")
        return status == 200 and json.loads(body)["checks"].get("worker") == "ok"

    def _streams(self) -> bool:
        return ask(self._settings.STREAM_PORT, "/healthz")[0] != 0

    def _is_sandbox_there(self) -> bool:
        return ask(self._settings.SANDBOX_PORT, "/healthz")[0] == 200


def ask(port: int, path: str) -> tuple[int, bytes]:
    """The status and body of a GET on this machine; (0, b"") when nobody answers."""
    with suppress(OSError, ValueError, IndexError):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
            with connection.makefile("rb") as stream:
                head, _, body = stream.read().partition(b"\r\n\r\n")
        return int(head.split()[1]), body
    return 0, b""


def _console(settings: Any) -> str:
    if settings.CONSOLE_HOST:
        return f"http://{settings.CONSOLE_HOST}:{settings.PORT}/console/"
    return f"{settings.PUBLIC_URL}/console/"


def banner(settings: Any, *, took: float) -> str:
    """What a person needs to go on; its last line begins with `ready`."""
    port, state = settings.PORT, settings.STATE_DIR
    key_file = state / "platform-key"
    key = key_file.read_text().strip() if key_file.exists() else "none"
    body = '{"email": "ada@example.com", "tenant_name": "Acme", "plan": "free"}'
    return f"""
  API, pages     {settings.PUBLIC_URL}   http://{settings.TENANT_DOMAIN}:{port}
  Tenants        http://<slug>.{settings.TENANT_DOMAIN}:{port}
  Console        {_console(settings)}
  Events         {settings.STREAM_URL}
  Platform key   {key}   ({key_file})
  Mail, logs     {state}/mail   {state}/logs
  Webhooks       to public https{_opened(settings)}{_sandbox_line(settings)}

  Sign a tenant up:

  curl -i {settings.PUBLIC_URL}/v1/onboard -H 'Content-Type: application/json' -d '{body}'

ready in {took:.1f} s at {settings.PUBLIC_URL} (Ctrl-C stops everything)"""


def _opened(settings: Any) -> str:
    """Where else than to the public a webhook may go, or which variable says so."""
    sandbox = ("127.0.0.1", settings.SANDBOX_PORT)
    opened = [pair for pair in settings.WEBHOOK_OPEN_DESTINATIONS if pair != sandbox]
    pairs = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in opened]
    return f", and to {', '.join(pairs)}" if pairs else " alone (WEBHOOK_OPEN_DESTINATIONS)"


def _sandbox_line(settings: Any) -> str:
    if not settings.SANDBOX_PORT:
        return ""
    return f"\n  Sandbox        http://127.0.0.1:{settings.SANDBOX_PORT}   (sends messages nowhere)"


if __name__ == "__main__":
    sys.exit(main())

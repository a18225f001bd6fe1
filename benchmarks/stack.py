"""The servers of a run: a durable Postgres, a Valkey, and Slipway's own processes on top."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.request import urlopen

import psutil
import psycopg

from config.embedded import Postgres, Valkey
from config.embedded.secrets import stored_secrets

ROOT = Path(__file__).parent.parent
TEMPLATE = "slipway_bench"
# As durable as in production (fsync, synchronous_commit and full_page_writes are on), with room for
# a million rows: what is measured is not how soon a small cache or a checkpoint comes in between.
POSTGRES_SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "maintenance_work_mem": "256MB",
}
STOP_SECONDS = 20.0
START_SECONDS = 40.0


class Stack:
    """One Postgres and one Valkey; a migrated template database that measurements copy."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.postgres = Postgres(directory / "postgres", settings=POSTGRES_SETTINGS)
        self.valkey = Valkey(directory / "valkey")
        self.platform_key = ""

    def start(self) -> None:
        """Start the servers, migrate the template, and set Django up in this process."""
        import django

        from tenants import roles

        self.postgres.start()
        self.valkey.start()
        roles.create_roles(self.postgres.superuser_conninfo())
        roles.create_database(self.postgres.superuser_conninfo(), TEMPLATE)
        os.environ.update(self.environment(TEMPLATE))
        for name in ("EMAIL_URL", "TENANT_STORAGE_BACKEND", "TENANT_STORAGE_OPTIONS"):
            os.environ.pop(name, None)
        subprocess.run(
            [sys.executable, "manage.py", "migrate", "--verbosity=0", "--skip-checks"],
            cwd=ROOT,
            check=True,
        )
        django.setup()
        self.platform_key = self._make_key()

    def stop(self) -> None:
        self.valkey.stop()
        self.postgres.stop("immediate")

    def environment(self, database: str) -> dict[str, str]:
        """The variables that lead a process to one database of this run."""
        return {
            **stored_secrets(self.directory),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "SLIPWAY_STATE_DIR": str(self.directory / database),
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "DATABASE_URL": self.postgres.conninfo(database, "slipway_app"),
            "OPERATOR_DATABASE_URL": self.postgres.conninfo(database, "slipway_operator"),
            "OWNER_DATABASE_URL": self.postgres.conninfo(database, "slipway_owner"),
            "REDIS_URL": self.valkey.url,
            "LOG_LEVEL": "WARNING",
        }

    @contextmanager
    def database(self, name: str) -> Iterator[str]:
        """A copy of the template, dropped at the end."""
        from tenants import roles

        name = f"{TEMPLATE}_{name}"
        roles.create_database(self.postgres.superuser_conninfo(), name, template=TEMPLATE)
        try:
            yield name
        finally:
            with self.connect("postgres", "postgres") as connection:
                connection.execute(f'drop database "{name}" with (force)')

    def connect(self, database: str, role: str) -> psycopg.Connection:
        """A raw connection in autocommit."""
        return psycopg.connect(self.postgres.conninfo(database, role), autocommit=True)

    def engine(self, database: str) -> dict[str, Any]:
        """How a drainer connects to a database of this run."""
        from jobs.engine import link

        return {**link.parameters("benchmarks"), "dbname": database}

    @contextmanager
    def process(self, *command: str, **variables: str) -> Iterator[psutil.Process]:
        """A process of ours, started in the environment given, stopped at the end."""
        log = (self.directory / "processes.log").open("ab")
        child = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | variables, stdout=log, stderr=log
        )
        try:
            yield psutil.Process(child.pid)
        finally:
            _end(child)
            log.close()

    @contextmanager
    def web(
        self,
        database: str,
        *,
        workers: int,
        threads: int,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[tuple[int, psutil.Process]]:
        """The Procfile's `web`, serving; (its port, its process)."""
        port = free_port()
        environment = {
            **self.environment(database),
            "PORT": str(port),
            "PUBLIC_URL": f"http://127.0.0.1:{port}",
            "WEB_WORKERS": str(workers),
            "WEB_THREADS": str(threads),
            **variables,
        }
        with self.process(*procfile("web"), **environment) as process:
            wait_until_answers(f"http://127.0.0.1:{port}/healthz", process)
            yield port, process

    @contextmanager
    def worker(
        self, database: str, variables: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[psutil.Process]:
        """The Procfile's `worker`, with its drainer; claiming when this returns."""
        environment = {**self.environment(database), **variables}
        with self.process(*procfile("worker"), **environment) as process:
            with self.connect(database, "slipway_operator") as connection:
                wait_for(connection, "select exists (select from jobs_drainer)", process)
            yield process

    def _make_key(self) -> str:
        """A platform key that no limit stops, in the template and so in every copy."""
        from django.db import connections

        from tenants import keys

        made = keys.create_platform(name="benchmarks", actor="system:benchmarks")
        with connections["operator"].cursor() as cursor:
            cursor.execute("update tenants_platformkey set rate_limit = 2000000000")
        connections.close_all()
        # A database is copied only while nobody is connected to it: pools close their own late.
        for alias in ("default", "operator"):
            connections[alias].close_pool()  # type: ignore[attr-defined]
        return made.token


def procfile(name: str) -> tuple[str, ...]:
    """The command of a process, as the Procfile has it."""
    for line in (ROOT / "Procfile").read_text().splitlines():
        if line.startswith(f"{name}: "):
            return "sh", "-c", f"exec {line.partition(': ')[2]}"
    raise RuntimeError(f"The Procfile has no {name}.")


def default_of(variable: str) -> int:
    """What the Procfile puts for a number that the environment does not say."""
    found = re.search(rf"\$\{{{variable}:-(\d+)\}}", (ROOT / "Procfile").read_text())
    if found is None:
        raise RuntimeError(f"The Procfile has no default for {variable}.")
    return int(found[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_answers(url: str, process: psutil.Process) -> None:
    """Wait for a 200."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urlopen(url, timeout=2):
                return
        except OSError:
            _refuse_late(deadline, process, url)


def wait_until_listens(port: int, process: psutil.Process) -> None:
    """Wait until somebody takes connections at a port."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=2).close()
            return
        except OSError:
            _refuse_late(deadline, process, f"port {port}")


def wait_for(connection: psycopg.Connection, query: str, process: psutil.Process) -> None:
    """Wait until a query says true."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        row = connection.execute(query).fetchone()
        if row and row[0]:
            return
        _refuse_late(deadline, process, query)


def tree(process: psutil.Process) -> list[psutil.Process]:
    """A process and what it started."""
    return [process, *process.children(recursive=True)]


def cpu_seconds(processes: list[psutil.Process]) -> float:
    """User and system time that they have used so far."""
    spent = [process.cpu_times() for process in processes if process.is_running()]
    return sum(times.user + times.system for times in spent)


def _refuse_late(deadline: float, process: psutil.Process, what: str) -> None:
    if time.monotonic() > deadline or not process.is_running():
        raise RuntimeError(f"Nothing came of {what}; see processes.log.")
    time.sleep(0.05)


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()

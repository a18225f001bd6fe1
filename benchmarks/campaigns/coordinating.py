"""A campaign's POST that accepts, against one that generates and writes all before it answers.

One request in ten makes a campaign; the others only read, and want a quick answer. Sixteen
connections send the next request when they have an answer. Generating waits for a service: for a
second, which a language model takes for a text of some eighty words; for 200 ms, as one that looks
a text up does; and for nothing, which leaves only Slipway's own work. Slipway's worker generates
and writes the same campaigns meanwhile, on the same cores.

Both sides are served as the Procfile serves them when nobody says otherwise: there a campaign that
waits holds a thread that others want, which is what moving it off the path is about. With a thread
for each connection waiting holds nobody up, and what is left is the work on either side: those rows
say that, and have no budget.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, cycle

from benchmarks.campaigns.audience import all_day
from benchmarks.campaigns.office import Account, Office, office
from benchmarks.load import Load, closed
from benchmarks.size import Size
from benchmarks.stack import Stack, default_of
from benchmarks.table import Budget, Row, median_ratio, ms, per_second

TENANTS, CUSTOMERS = 8, 200
CONNECTIONS = 16
EACH_TENTH = 10
WRITTEN, LOOKED_UP = 1.0, 0.2  # Seconds.
PATIENCE = 180.0  # Seconds until the worker has done what was accepted.
THROUGHPUT = Budget(least=1.4)
TAIL = Budget(most=0.75)
LEFT = """
select exists (select from jobs_job where finished_at is null
  and kind in ('campaigns.generate', 'campaigns.materialise'))
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """How both sides are served."""

    workers: int
    threads: int  # Of each worker.
    said: str

    @property
    def name(self) -> str:
        return f"{self.said}: granian {self.workers}x{self.threads}"


def shipped() -> Shape:
    """The Procfile's own."""
    return Shape(default_of("WEB_WORKERS"), default_of("WEB_THREADS"), "as shipped")


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    usual, roomy = shipped(), Shape(1, CONNECTIONS, "a thread for each connection")
    yield from _side_by_side(stack, size, usual, WRITTEN, (THROUGHPUT, TAIL))
    yield from _side_by_side(stack, size, usual, LOOKED_UP)
    yield from _side_by_side(stack, size, usual, 0.0)
    yield from _side_by_side(stack, size, roomy, WRITTEN)
    yield from _side_by_side(stack, size, roomy, 0.0)


def _side_by_side(
    stack: Stack,
    size: Size,
    shape: Shape,
    seconds: float,
    budgets: tuple[Budget | None, ...] = (None, None),
) -> Iterator[Row]:
    with office(stack, "enqueued") as ours, office(stack, "inline") as other:
        waits = {"GENERATION_SECONDS": f"{seconds:g}"}
        rounds = list(_rounds(stack, size, shape, (ours, other), waits))
    middle, beside = rounds[len(rounds) // 2]
    how = f"generating takes {seconds * 1000:g} ms; {shape.name}"
    yield Row(
        f"requests a second, campaigns enqueued / inline ({how})",
        per_second(middle.rate), per_second(beside.rate),
        median_ratio((one.rate, two.rate) for one, two in rounds), budgets[0],
    )  # fmt: skip
    yield Row(
        f"p99 of all requests, campaigns enqueued / inline ({how})",
        ms(middle.p(0.99)), ms(beside.p(0.99)),
        median_ratio((one.p(0.99), two.p(0.99)) for one, two in rounds), budgets[1],
    )  # fmt: skip


def _rounds(
    stack: Stack, size: Size, shape: Shape, places: tuple[Office, Office], waits: dict[str, str]
) -> Iterator[tuple[Load, Load]]:
    ours, other = places
    usual = {**waits, "DJANGO_SETTINGS_MODULE": "benchmarks.campaigns.settings"}
    inline = {**waits, "DJANGO_SETTINGS_MODULE": "benchmarks.campaigns.settings_inline"}
    with (
        _web(stack, ours, shape, usual) as port,
        _web(stack, other, shape, inline) as beside,
        stack.worker(ours.database, ours.environment | usual),
    ):
        sides = [(port, _requests(stack, ours), ours), (beside, _requests(stack, other), other)]
        for number in range(size.rounds + 1):
            loads = []
            for at, requests, place in sides:
                seconds = size.seconds if number else 1.0  # The first round warms up.
                load = closed(at, requests, connections=CONNECTIONS, seconds=seconds)
                loads.append(_well(load))
                _wait_for_worker(place)
            if number:
                yield loads[0], loads[1]


@contextmanager
def _web(stack: Stack, place: Office, shape: Shape, variables: dict[str, str]) -> Iterator[int]:
    """A web process of this shape; its port."""
    with stack.web(
        place.database, workers=shape.workers, threads=shape.threads, variables=variables
    ) as (port, _):
        yield port


def _well(load: Load) -> Load:
    """Errors are quick, too."""
    if not set(load.statuses) <= {200, 201, 202}:
        raise RuntimeError(f"Expected 200, 201 and 202 only, got {dict(load.statuses)}.")
    return load


def _wait_for_worker(place: Office) -> None:
    """What one side left to be done is no burden for the other."""
    deadline = time.monotonic() + PATIENCE
    while place.one(LEFT):
        if time.monotonic() > deadline:
            raise RuntimeError(f"The worker is not done after {PATIENCE:g} s.")
        time.sleep(0.1)


def _requests(stack: Stack, place: Office) -> Iterator[bytes]:
    accounts = [place.account(tenant, {}) for tenant in place.tenants(TENANTS, customers=CUSTOMERS)]
    for number, account in zip(count(), cycle(accounts)):
        if number % EACH_TENTH:
            yield _request(stack, account, "GET", "/v1/templates?limit=1", b"")
        else:
            yield _request(stack, account, "POST", "/v1/campaigns", _campaign(account))


def _campaign(account: Account) -> bytes:
    body = {
        "name": "Spring",
        "account_id": f"acc_{account.id}",
        "filter": {"all": []},
        "generator": "slow",
        "brief": {"about": "spring"},
        "variables": {"name": {"field": "name"}},
        "quiet_hours": all_day(),  # What is measured ends before anything is sent.
    }
    return json.dumps(body).encode()


def _request(stack: Stack, account: Account, method: str, path: str, body: bytes) -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Authorization: Bearer {stack.platform_key}\r\nSlipway-Tenant: t-{account.tenant}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body

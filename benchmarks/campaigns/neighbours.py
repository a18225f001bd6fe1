"""How long a small tenant's message waits for its start, with and without a large neighbour.

Nineteen tenants send one message after the other, each in a running campaign of its own, through an
account at a provider that answers after 0.3 s. The neighbour has a hundred thousand at one that
takes two seconds, never answers one in ten, and is declared to take a thousand a second. The delay
is from the commit of the message to its acceptance, by the sandbox's ledger. The neighbour's
campaign is held and goes on by turns, and times of each turn are compared with each other: so the
ratio holds where the machine's speed does not.
"""

import time
from collections.abc import Iterator
from itertools import chain
from statistics import median
from uuid import UUID

from benchmarks.campaigns.office import Account, Office, office, write_customers
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, median_ratio, ms, percentile

SMALL = 19
EACH = 3  # Messages of each in a turn;
GAP = 0.05  # seconds between two of them all.
HELD = 3.0  # Seconds from holding the neighbour until its answers have come;
FLOWING = 500  # Messages of it that are accepted until its window is full again.
PATIENCE = 60.0  # Seconds for the last arrival, and for these.
SOONEST = 0.0001  # Seconds: an arrival may overtake the end of the commit.
BUDGET = Budget(most=1.5)


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with office(stack, "neighbours") as place:
        large, *small = place.tenants(1 + SMALL, customers=EACH * (1 + 2 * size.of_bystander))
        accounts = [place.account(tenant, {"latency": 0.3}) for tenant in small]
        senders = [(account, account.campaign(0, of=size.flood)) for account in accounts]
        flood = _flood(place, large, size.flood)
        with place.drainer():
            _delays(place, senders)  # Warms up.
            campaign = flood.campaign(size.flood)
            _flow(flood)
            rounds, sent = [], []
            for _ in range(size.of_bystander):
                flood.hold(campaign, True)
                time.sleep(HELD)
                quiet = _delays(place, senders)
                flood.hold(campaign, False)
                _flow(flood)
                accepted, began = flood.ledger()["accepted"], time.monotonic()
                rounds.append((_delays(place, senders), quiet))
                accepted = flood.ledger()["accepted"] - accepted
                sent.append(accepted / (time.monotonic() - began))
    yield from _rows(rounds, f"{size.flood:,} at 2 s, {median(sent):.0f} a second")


def _rows(rounds: list[tuple[list[float], list[float]]], whose: str) -> Iterator[Row]:
    troubled, quiet = (list(chain.from_iterable(one)) for one in zip(*rounds, strict=True))
    ratios = {
        0.5: median_ratio((percentile(one, 0.5), percentile(two, 0.5)) for one, two in rounds),
        0.95: percentile(troubled, 0.95) / percentile(quiet, 0.95),
    }
    for q, ratio in ratios.items():
        yield Row(
            f"a small campaign's start delay, p{q * 100:.0f}, with / without a neighbour's {whose}",
            ms(percentile(troubled, q)),
            ms(percentile(quiet, q)),
            ratio,
            BUDGET,
        )


def _flood(place: Office, tenant: int, messages: int) -> Account:
    place.superuser.execute("delete from pool.customers_customer where tenant_id = %s", [tenant])
    write_customers(place.superuser, tenant, messages)
    hanging = {"latency": 2.0, "faults": {"hang": 0.1}}
    return place.account(tenant, hanging, rate=1000, slots=1200)


def _flow(flood: Account) -> None:
    """Wait until its messages go out: held, only those end that nobody answers, and for these its
    breaker may open."""
    enough, deadline = flood.ledger()["accepted"] + FLOWING, time.monotonic() + PATIENCE
    while flood.ledger()["accepted"] < enough:
        if time.monotonic() > deadline:
            raise RuntimeError(f"The neighbour sent no {FLOWING} messages in {PATIENCE:g} s.")
        time.sleep(0.2)


def _delays(place: Office, senders: list[tuple[Account, UUID]]) -> list[float]:
    """Seconds from the commit of each message of theirs to its acceptance."""
    written: dict[str, tuple[Account, float]] = {}
    for account, campaign in senders * EACH:
        (message,) = account.add(campaign, 1)
        written[str(message)] = account, time.time()
        time.sleep(GAP)
    came: dict[str, float] = {}
    deadline = time.monotonic() + PATIENCE
    while not written.keys() <= came.keys():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(written.keys() - came.keys())} never came.")
        time.sleep(0.5)
        for account, _ in senders:
            came |= account.arrivals()
    return [max(SOONEST, came[message] - at) for message, (_, at) in written.items()]

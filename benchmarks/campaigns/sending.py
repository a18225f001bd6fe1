"""One campaign at a slow provider: one by one, in batches of 30, and as Slipway does.

The first two are the ways of most dispatchers. They are measured on a few messages, since they keep
the same pace throughout. Rates are from the first try to the last settled row. Then a provider that
takes only so many a second, and the memory of a drainer with a thousand messages under way.
"""

import time
from collections.abc import Iterator

import psutil
import requests

from benchmarks.campaigns.office import Account, Office, office
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, per_second

LATENCY = 2.0  # Seconds that the provider takes.
SLOTS, DECLARED = 1200, 1000  # What the account declares: messages at once, and a second.
ONE_BY_ONE, BATCHES, BATCH = 10, 3, 30
CAP = 80.0  # A second: what WhatsApp's Cloud API takes of one number.
SLOW = {"latency": LATENCY}
LIMITED = {**SLOW, "rate": {"per_second": CAP, "burst": CAP, "retry_after": 1}}
WIDE = 1000  # Messages under way when memory is looked at;
ENOUGH = 0.95  # of which so many are seen, since they are counted now and then.
PATIENCE = 120.0  # Seconds until so many are.

BATCHED = Budget(least=25)
OF_CAP = Budget(least=0.85)
REFUSED = Budget(most=0.02)
MEMORY = Budget(most=150, unit="MB")


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with office(stack, "campaign") as place:
        (tenant,) = place.tenants(1, customers=max(size.recipients, size.capped))
        sequential = _one_by_one(place.account(tenant, SLOW))
        with place.drainer():
            batches = _rate(place.account(tenant, SLOW, mode="compat"), BATCHES * BATCH)
            declared = _rate(
                place.account(tenant, SLOW, rate=DECLARED, slots=SLOTS), size.recipients
            )
            learnt = _rate(place.account(tenant, SLOW), size.recipients)
            yield from _against(size, sequential, batches, declared, learnt)
            yield from _capped(place.account(tenant, LIMITED), size, "learnt")
            yield from _capped(place.account(tenant, LIMITED, rate=CAP), size, "declared")
    with office(stack, "wide_campaign") as place:
        yield _memory(place)


def _one_by_one(account: Account) -> float:
    """Messages a second of a loop that sends the next one when it has its answer."""
    with requests.Session() as session:
        session.headers["Authorization"] = "Bearer any"
        began = time.monotonic()
        for n in range(ONE_BY_ONE):
            body = {"from": account.sender, "to": f"+49301{n:06}", "callback_data": f"{n}"}
            answer = session.post(
                f"{account.office.url}/v1/messages",
                json=body,
                headers={"Authorization": "Bearer any"},
            )
            answer.raise_for_status()
        return ONE_BY_ONE / (time.monotonic() - began)


def _rate(account: Account, messages: int) -> float:
    """Messages a second of one campaign, from its first try to its last settled row."""
    seconds = account.wait_finished(account.campaign(messages), messages)
    ledger = account.ledger()
    if (ledger["accepted"], ledger["duplicates"]) != (messages, 0):
        raise RuntimeError(f"Of {messages} messages were accepted: {ledger}.")
    return messages / seconds


def _against(
    size: Size, sequential: float, batches: float, declared: float, learnt: float
) -> Iterator[Row]:
    what = f"messages a second, {size.recipients:,} at a provider of {LATENCY:g} s"
    sides = (
        ("declared", declared, "30 threads, a batch after the other", batches, BATCHED),
        ("learnt", learnt, "30 threads, a batch after the other", batches, None),
        ("declared", declared, "one after the other", sequential, None),
    )
    for how, ours, than, other, budget in sides:
        yield Row(
            f"{what} (rate {how}) / {than}", f"{ours:.0f}/s", f"{other:.3g}/s", ours / other, budget
        )


def _capped(account: Account, size: Size, how: str) -> Iterator[Row]:
    account.wait_finished(account.campaign(size.capped), size.capped)
    ledger = account.ledger()
    rate = (ledger["accepted"] - 1) / (ledger["last_at"] - ledger["first_at"])
    refused = ledger["throttled"] / ledger["requests"]
    name = f"at a provider's cap of {CAP:g}/s and {LATENCY:g} s, rate {how}"
    yield Row(f"{name}: of the cap", per_second(rate), per_second(CAP), rate / CAP, OF_CAP)
    yield Row(
        f"{name}: refused with 429", f"{ledger['throttled']}", f"{ledger['requests']}", refused,
        REFUSED,
    )  # fmt: skip


def _memory(place: Office) -> Row:
    (tenant,) = place.tenants(1, customers=4 * WIDE)
    account = place.account(tenant, {"latency": 2 * LATENCY}, rate=10_000, slots=WIDE)
    account.campaign(4 * WIDE)
    most, in_flight, deadline = 0.0, 0, time.monotonic() + PATIENCE
    with place.drainer() as drainer:
        while account.ledger()["accepted"] < 4 * WIDE and time.monotonic() < deadline:
            in_flight = max(in_flight, _connections(drainer, place.port))
            most = max(most, drainer.memory_info().rss / 2**20)
            time.sleep(0.2)
    if in_flight < ENOUGH * WIDE:
        raise RuntimeError(f"Only {in_flight} messages were under way.")
    name = f"a drainer's memory (RSS), {in_flight:,} messages under way"
    return Row(name, f"{most:.0f} MB", "", most, MEMORY)


def _connections(process: psutil.Process, port: int) -> int:
    return sum(1 for one in process.net_connections("tcp4") if one.raddr and one.raddr[1] == port)

"""What publishing costs: one event for five endpoints in a transaction, and ten thousand in one."""

from collections.abc import Iterator
from itertools import chain

from benchmarks.delivering import site
from benchmarks.size import Size
from benchmarks.stack import Stack
from benchmarks.table import Budget, Row, median_ratio, ms, percentile

EACH = 5  # Endpoints.
MANY = 10_000  # Events in one call.
BUDGET = Budget(most=1)


def measure(stack: Stack, size: Size) -> Iterator[Row]:
    with site(stack, "publishing") as place:
        # Nobody delivers: the publisher has the machine.
        [tenant] = place.run("crowd", "endpoints", urls=place.urls("0"), tenants=1, each=EACH)
        ours, bare, at_once = [], [], []
        for _ in range(size.rounds):
            taken = place.run("crowd", "one", tenant=tenant, times=size.published)
            ours.append(taken["published"])
            bare.append(taken["inserted"])
            many = place.run("crowd", "publish", tenants=[tenant], events=MANY)
            at_once.append(many["seconds"])
    for q in (0.5, 0.99):
        pairs = [(percentile(a, q), percentile(b, q)) for a, b in zip(ours, bare, strict=True)]
        yield Row(
            f"publish one event to {EACH} endpoints / insert one row: p{q * 100:.0f}",
            ms(percentile([*chain(*ours)], q)),
            ms(percentile([*chain(*bare)], q)),
            median_ratio(pairs),
        )
    each = [(many / MANY, percentile(one, 0.5)) for many, one in zip(at_once, ours, strict=True)]
    yield Row(
        f"publish an event to {EACH} endpoints, of {MANY:,} in one call / alone",
        f"{ms(min(at_once) / MANY)}, all {min(at_once):.1f} s",
        ms(percentile([*chain(*ours)], 0.5)),
        median_ratio(each),
        BUDGET,
    )

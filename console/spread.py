"""How long things took, as a spread that can be added up: what p50 and p95 of any span come from.

Percentiles of minutes do not make an hour's. So each minute keeps how many works fell into which
bucket; a bucket is a quarter of a doubling wide, and a percentile is right to a tenth.
"""

import math
from collections.abc import Iterable, Mapping

# The same in SQL: milliseconds → bucket.
BUCKET = "floor(4 * ln(1 + greatest(0, {ms})::float8) / ln(2))::int"


def bucket(milliseconds: float) -> int:
    """The bucket of a duration."""
    return math.floor(4 * math.log2(1 + max(0.0, milliseconds)))


def add_up(spreads: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Several spreads, or any counts by name, as one."""
    total: dict[str, int] = {}
    for spread in spreads:
        for name, count in spread.items():
            total[name] = total.get(name, 0) + count
    return total


def quantile(spread: Mapping[str, int], share: float) -> float | None:
    """Milliseconds that `share` of them did not exceed; None of an empty spread."""
    wanted = math.ceil(share * sum(spread.values()))
    if not wanted:
        return None
    seen = 0
    for place in sorted(map(int, spread)):
        seen += spread[str(place)]
        if seen >= wanted:
            return float(2 ** ((place + 0.5) / 4) - 1)
    return None

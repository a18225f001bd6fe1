"""What a run prints: ours, the other side, their ratio, the budget and a verdict, line by line."""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound; `unit` is empty for a ratio."""

    most: float | None = None
    least: float | None = None
    unit: str = ""

    def holds(self, value: float) -> bool:
        over = self.most is not None and value > self.most
        under = self.least is not None and value < self.least
        return not (over or under)

    def __str__(self) -> str:
        sign, bound = ("≤", self.most) if self.most is not None else ("≥", self.least)
        return f"{sign} {bound:g} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `value` is what the budget bounds: a ratio, or a quantity in the budget's unit."""

    name: str
    ours: str
    other: str
    value: float
    budget: Budget | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "ok" if self.budget.holds(self.value) else "MISSED"

    @property
    def ratio(self) -> float:
        """The ratio to the other side; of a quantity with a unit, to its budget."""
        if self.budget is None or not self.budget.unit:
            return self.value
        return self.value / (self.budget.most or self.budget.least or 1.0)


def percentile(values: Sequence[float], q: float) -> float:
    """The value that a share `q` of them does not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))]


def median_ratio(pairs: Iterable[tuple[float, float]]) -> float:
    """The median, over rounds, of ours / other."""
    return statistics.median(ours / other for ours, other in pairs)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


def per_second(value: float) -> str:
    return f"{value:,.0f}/s"


def as_text(rows: Sequence[Row]) -> str:
    """A table for a terminal."""
    lines = [("", "ours", "other", "value", "budget", "")]
    lines += [
        (row.name, row.ours, row.other, _value(row), str(row.budget or ""), row.verdict)
        for row in rows
    ]
    return _aligned(lines)


def as_markdown(rows: Sequence[Row]) -> str:
    """A table of ratios alone, for docs/benchmarks.md: absolute numbers are a machine's own."""
    lines = ["| what | ratio | budget | verdict |", "|---|---|---|---|"]
    for row in rows:
        of_budget = " of the budget" if row.budget and row.budget.unit else ""
        cells = (row.name, f"{row.ratio:.3g}{of_budget}", row.budget or "", row.verdict)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    return json.dumps([asdict(row) | {"verdict": row.verdict} for row in rows], indent=2)


def _value(row: Row) -> str:
    return f"{row.value:.3g} {row.budget.unit if row.budget else ''}".strip()


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )

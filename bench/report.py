"""Figures as people read them."""

import dataclasses
import statistics

from bench.rows import Row

COLUMNS = ("work", "std, best", "leveret", "ratio", "aim", "met")
WIDTHS = (50, 32, 26, 8, 28, 5)


UNITS = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1.0}


def duration(ns: float) -> str:
    for unit, size in UNITS.items():
        if ns >= size and size > 1:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def spread(medians: list[float]) -> str:
    """Their median, and between which they lie."""
    if not medians:
        return "never"
    middle, least, most = statistics.median(medians), min(medians), max(medians)
    if len(medians) == 1:
        return duration(middle)
    unit = next((u for u in UNITS if middle >= UNITS[u]), "ns")
    return f"{duration(middle)} [{least / UNITS[unit]:.3g}-{most / UNITS[unit]:.3g}]"


@dataclasses.dataclass(frozen=True)
class Result:
    row: Row
    std_method: str
    std: list[float]  # medians of the rounds; none: it never ends
    ours: list[float]

    @classmethod
    def of(cls, row: Row, std: dict[str, list[float]], ours: list[float]) -> "Result":
        if not ours:
            raise RuntimeError("leveret never ended")
        medians = {method: statistics.median(found) for method, found in std.items() if found}
        best = min(medians, key=medians.__getitem__, default="")
        return cls(row, best, std.get(best, []), ours)

    @property
    def ours_ns(self) -> float:
        return statistics.median(self.ours)

    @property
    def std_ns(self) -> float | None:
        return statistics.median(self.std) if self.std else None

    @property
    def ratio(self) -> float | None:
        return self.std_ns / self.ours_ns if self.std_ns else None

    def verdicts(self) -> list[bool]:
        """One for each aim of the row."""
        row = self.row
        checks = []
        if row.factor and self.ratio is not None:
            checks.append(self.ratio >= row.factor)
        if row.aim:
            checks.append(self.ours_ns <= row.aim)
        if row.over_ns and self.std_ns is not None:
            checks.append(self.ours_ns - self.std_ns <= row.over_ns)
        return checks

    def aims(self) -> str:
        row = self.row
        said = []
        if row.factor:
            said.append(f"{row.factor:.2g}x")
        if row.aim:
            said.append(f"at most {duration(row.aim)}")
        if row.over_ns:
            said.append(f"at most {duration(row.over_ns)} over std")
        return ", ".join(said)

    def cells(self) -> tuple[str, ...]:
        one = len(self.row.std) == 1 or not self.std
        std = spread(self.std) + ("" if one else f" ({self.std_method})")
        ratio = f"{self.ratio:.2f}x" if self.ratio else ""
        verdicts = self.verdicts()
        met = "" if not verdicts else "yes" if all(verdicts) else "NO"
        return (self.row.what, std, spread(self.ours), ratio, self.aims(), met)


def table(results: list[Result], heading: bool) -> str:
    rows = ([COLUMNS] if heading else []) + [result.cells() for result in results]
    return "\n".join(
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, WIDTHS, strict=True)).rstrip()
        for row in rows
    )


def markdown(results: list[Result]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(result.cells()) + " |" for result in results]
    return "\n".join(lines)

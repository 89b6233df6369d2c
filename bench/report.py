"""Figures as people read them."""

import dataclasses
import statistics

from bench.rows import Row

JUDGED = ("ratio", "aim", "met")
COLUMNS = ("work", "std, best", "leveret", *JUDGED)
WIDTHS = (56, 32, 26, 8, 28, 5)


UNITS = {"s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1.0}


def duration(ns: float) -> str:
    for unit, size in UNITS.items():
        if ns >= size and size > 1:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def figure(value: float, unit: str = "") -> str:
    """VALUE in UNIT; without one it is a duration."""
    return f"{value:.4g} {unit}" if unit else duration(value)


def spread(medians: list[float], unit: str = "") -> str:
    """Their median, and between which they lie."""
    if not medians:
        return "never"
    middle, least, most = statistics.median(medians), min(medians), max(medians)
    if len(medians) == 1:
        return figure(middle, unit)
    size = 1.0 if unit else next((n for n in UNITS.values() if middle >= n), 1.0)
    return f"{figure(middle, unit)} [{least / size:.3g}-{most / size:.3g}]"


def best(std: dict[str, list[float]]) -> str:
    """The start method with the least median; empty: it never ends with any."""
    medians = {method: statistics.median(found) for method, found in std.items() if found}
    return min(medians, key=medians.__getitem__, default="")


def std_cell(row: Row, method: str, medians: list[float]) -> str:
    said = f" ({method})" if len(row.std) > 1 and medians else ""
    return spread(medians, row.unit) + said


@dataclasses.dataclass(frozen=True)
class Result:
    row: Row
    std_method: str
    std: list[float]  # medians of the rounds; none: it never ends
    method: str
    ours: list[float]

    @classmethod
    def of(cls, row: Row, std: dict[str, list[float]], method: str, ours: list[float]) -> "Result":
        """The best of STD beside what our METHOD has."""
        if not ours:
            raise RuntimeError("leveret never ended")
        fastest = best(std)
        return cls(row, fastest, std.get(fastest, []), method, ours)

    @property
    def what(self) -> str:
        return f"{self.row.what}, {self.method}" if len(self.row.ours) > 1 else self.row.what

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
            said.append(f"at most {figure(row.aim, row.unit)}")
        if row.over_ns:
            said.append(f"at most {duration(row.over_ns)} over std")
        return ", ".join(said)

    def judgement(self) -> tuple[str, str, str]:
        """The columns JUDGED."""
        verdicts = self.verdicts()
        met = "" if not verdicts else "yes" if all(verdicts) else "NO"
        return f"{self.ratio:.2f}x" if self.ratio else "", self.aims(), met

    def cells(self) -> tuple[str, ...]:
        std = std_cell(self.row, self.std_method, self.std)
        return (self.what, std, spread(self.ours, self.row.unit), *self.judgement())


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

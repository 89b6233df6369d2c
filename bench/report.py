"""Figures as people read them."""

import dataclasses
import statistics

from bench.rows import Row

COLUMNS = ("work", "std, best", "leveret", "ratio", "aim", "met")
WIDTHS = (50, 20, 10, 8, 28, 5)


def duration(ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


@dataclasses.dataclass(frozen=True)
class Result:
    row: Row
    std_method: str
    std_ns: float | None  # None: it never ends
    ours_ns: float

    @classmethod
    def of(cls, row: Row, std: dict[str, list[float]], ours: list[float]) -> "Result":
        if not ours:
            raise RuntimeError("leveret never ended")
        medians = {method: statistics.median(found) for method, found in std.items() if found}
        best = min(medians, key=medians.__getitem__, default="")
        return cls(row, best, medians.get(best), statistics.median(ours))

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
        method = "" if self.row.std in (("fork",), ("none",)) else f" ({self.std_method})"
        std = duration(self.std_ns) + method if self.std_ns else "never"
        ratio = f"{self.ratio:.2f}x" if self.ratio else ""
        verdicts = self.verdicts()
        met = "" if not verdicts else "yes" if all(verdicts) else "NO"
        return (self.row.what, std, duration(self.ours_ns), ratio, self.aims(), met)


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

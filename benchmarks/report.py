"""From figures to the table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Result = dict[str, Any]


class Column(NamedTuple):
    """One column: its heading, where its figure is found in a result, and how it is written."""

    heading: str
    path: tuple[str, ...]
    write: Callable[[float], str]

    def figure(self, result: Result) -> float | None:
        """The median of the rounds that have such a figure, or None."""
        found = [
            value for value in (self._of(round_) for round_ in result.get("rounds", ())) if value is not None
        ]
        return statistics.median(found) if found else None

    def _of(self, round_: Result) -> float | None:
        value: Any = round_
        for key in self.path:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, (int, float)) else None


def milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 10 else f"{value:.0f}"


COLUMNS = (
    Column("enqueue p50 ms", ("enqueue", "p50_ms"), milliseconds),
    Column("enqueue p99 ms", ("enqueue", "p99_ms"), milliseconds),
    Column("loop p50 ms", ("loop", "p50_ms"), milliseconds),
    Column("dispatch p50 ms", ("dispatch", "p50_ms"), milliseconds),
    Column("dispatch p99 ms", ("dispatch", "p99_ms"), milliseconds),
    Column("jobs/s drain", ("drain", "per_second"), "{:.0f}".format),
    Column("jobs/s end to end", ("end_to_end", "per_second"), "{:.0f}".format),
    Column("idle CPU s/min", ("idle_cpu_s_per_min",), "{:.2f}".format),
    Column("PSS MB", ("pss_bytes",), lambda value: f"{value / 1e6:.1f}"),
)


DISTRIBUTIONS = ("autocron-web", "autocron", "huey", "celery", "dramatiq", "rq", "saq")


def machine(folder: Path) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "when": time.strftime("%Y-%m-%d"),
        "load at the start": load(),
        "cpu": f"{os.cpu_count()} × {_cpu_name()}",
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {_filesystem(folder)}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: version for name in DISTRIBUTIONS if (version := _version(name))},
    }


def load() -> str:
    """How many processes wanted a processor over the last minute: the benchmark's own part is below 1."""
    return f"{os.getloadavg()[0]:.1f}"


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    """The type of the file system with the longest mount point above `folder`."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, name, *_ = line.split()
        if folder.resolve().is_relative_to(mount) and len(mount) > len(best):
            best, kind = mount, name
    return kind


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table that reads well in a terminal too; the first is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            row[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines.insert(1, "| " + " | ".join(rule) + " |")
    return "\n".join(lines)


def figures(results: Sequence[Result]) -> str:
    """The table of what was measured."""
    rows = [["", "durable", *(column.heading for column in COLUMNS)]]
    for result in results:
        cells = []
        for column in COLUMNS:
            value = column.figure(result)
            cells.append("–" if value is None else column.write(value))
        rounds = result.get("rounds", ())
        durable = next((round_["durable"] for round_ in rounds if "durable" in round_), "yes")
        rows.append([result["name"], "missing" if "missing" in result else durable, *cells])
    return table(rows)


def ratios(results: Sequence[Result]) -> str | None:
    """Every figure divided by autocron-web's, or None if that was not measured."""
    base = next((result for result in results if result["name"] == "autocron-web"), {})
    if all(column.figure(base) is None for column in COLUMNS):
        return None
    rows = [["÷ autocron-web", *(column.heading.removesuffix(" ms") for column in COLUMNS)]]
    for result in results:
        if result is base or "missing" in result:
            continue
        cells = []
        for column in COLUMNS:
            value, unit = column.figure(result), column.figure(base)
            cells.append("–" if value is None or not unit else f"{value / unit:.2f}")
        rows.append([result["name"], *cells])
    return table(rows)


def notes(result: Result) -> list[str]:
    """What a reader must know about one line of the table."""
    name = result["name"]
    if "missing" in result:
        return [f"{name} was not measured: no module {result['missing']}; install the extra `bench`."]
    rounds = result["rounds"]
    found = [f"{name} failed: {reason}" for round_ in rounds for reason in round_.get("failed", ())]
    if settings := rounds[0].get("settings"):
        found.append(f"{name}: {settings}; {rounds[0].get('processes', 0)} processes.")
    if beside := [round_["raw_beside"]["p50_ms"] for round_ in rounds if "raw_beside" in round_]:
        found.append(f"{name}: a raw commit took {', '.join(map(milliseconds, beside))} ms beside it.")
    for key in ("drain", "end_to_end"):
        for part in (round_[key] for round_ in rounds if key in round_):
            if part.get("complete") is False:
                text = f"{name}: {key} was stopped at its time limit: {part['ran']} of {part['of']} jobs ran."
                found.append(text)
    return found


def text(document: dict[str, Any]) -> str:
    """All that is printed at the end of a run."""
    options, results = document["options"], document["results"]
    facts = ", ".join(f"{key} {value}" for key, value in document["machine"].items())
    counts = (
        "Medians of {rounds} rounds, each of {jobs} jobs and {samples} single calls; {idle:g} s of rest; "
        "2 workers.".format(**options)
    )
    parts = [facts, counts, figures(results), ratios(results)]
    parts.append("\n".join(f"- {note}" for result in results for note in notes(result)))
    return "\n\n".join(part for part in parts if part)


if __name__ == "__main__":
    sys.exit("This is a part of bench.py; run that.")

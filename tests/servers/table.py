"""Run the matrix with all its servers and endings, and print its tables: `python tests/servers/table.py`.

With `--write` run only the servers of the tables in docs/servers.md, one at a time, and put them there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests"))  # pytest does so for the tests

from server_table import MORE, SERVERS  # noqa: E402
from test_frameworks import ROWS  # noqa: E402

PAGE = CHECKOUT / "docs" / "servers.md"
BEGIN, END = "<!-- the {} of tests/servers/table.py -->", "<!-- its end -->"
#: How many tests run at a time: they wait for linger and drain more than they compute. The first ones take
#: the time, too, and for the page they run one by one.
FILES = {"test_matrix.py": 2, "test_frameworks.py": 4}

#: The columns: a heading, and the name of what the tests note.
COLUMNS = (
    ("jobs run", "jobs"),
    ("monitors + workers", "pool"),
    ("new code by", "reload"),
    ("cron slots run", "slots"),
    ("server ends (without us)", "exit"),
    ("all gone after `SIGTERM`", "SIGTERM"),
    ("Ctrl-C", "SIGINT"),
    ("`kill -9`", "SIGKILL"),
)


def main(write: bool) -> int:
    noted: dict[str, dict[str, list[str]]] = {}
    failed = [file for file in FILES if not _run(file, write, noted)]
    for name, table in {"servers": _servers(noted), "frameworks": _frameworks(noted)}.items():
        sys.stdout.write(f"{table}\n")
        if write and not failed:
            put(name, table)
    return 1 if failed else 0


def _run(file: str, write: bool, noted: dict[str, dict[str, list[str]]]) -> bool:
    """Run these tests, and add what they note. Whether all of them pass."""
    environment = {**os.environ, "MATRIX": "table" if write else "full"}
    jobs = 0 if write and file == "test_matrix.py" else FILES[file]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        words = [str(Path(__file__).with_name(file)), "-n", str(jobs), "--junitxml", str(report)]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *words, "-o", "junit_family=xunit1"],
            cwd=CHECKOUT, env=environment, stdout=sys.stderr,
        )  # fmt: skip
        _note(report, noted)
    return run.returncode == 0


def put(name: str, table: str) -> None:
    """Write a table into the page."""
    before, begin, rest = PAGE.read_text().partition(BEGIN.format(name))
    _, end, after = rest.partition(END)
    PAGE.write_text(f"{before}{begin}\n{table}{end}{after}")


def _note(report: Path, noted: dict[str, dict[str, list[str]]]) -> None:
    """Add what the tests have noted with `record_property`, by server and name."""
    for case in ElementTree.parse(report).iter("testcase"):
        values = [(item.get("name", ""), item.get("value", "")) for item in case.iter("property")]
        row = noted.setdefault(dict(values).get("server", ""), {})
        for name, value in values:
            row.setdefault(name, []).append(value)


def _servers(noted: dict[str, dict[str, list[str]]]) -> str:
    lines = [["server", *(heading for heading, _ in COLUMNS)]]
    for name in (server.name for server in (*SERVERS, *MORE) if server.name in noted):
        row = noted[name]
        lines.append([name, *("<br>".join(row.get(column, ["**fails**"])) for _, column in COLUMNS)])
    return _table(lines)


def _frameworks(noted: dict[str, dict[str, list[str]]]) -> str:
    lines = [["framework", "server", "jobs run", "all gone after `SIGTERM`, `kill -9`"]]
    for row in ROWS:
        known = noted.get(row.name, {})
        lines.append([*row[:2], *(known.get(word, ["**fails**"])[0] for word in ("jobs", "gone"))])
    return _table(lines)


def _table(lines: list[list[str]]) -> str:
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv))

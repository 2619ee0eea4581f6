"""Run the matrix with all its servers and endings, and print its table: `python tests/servers/table.py`.

With `--write` run only the servers of the table in docs/servers.md, one at a time, and put it there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from server_table import MORE, SERVERS

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "servers.md"
BEGIN, END = "<!-- the table of tests/servers/table.py -->", "<!-- its end -->"

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
    environment = {**os.environ, "MATRIX": "table" if write else "full"}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [
            sys.executable,
            "-m",
            "pytest",
            str(Path(__file__).with_name("test_matrix.py")),
            "--junitxml",
            str(report),
        ]
        command += [] if write else ["-n", "2"]  # they wait for linger and drain more than they compute
        run = subprocess.run(
            [*command, "-o", "junit_family=xunit1"], cwd=CHECKOUT, env=environment, stdout=sys.stderr
        )
        table = _table(_noted(report))
    sys.stdout.write(table)
    if write and run.returncode == 0:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        _, _, after = rest.partition(END)
        PAGE.write_text(f"{before}{BEGIN}\n{table}{END}{after}")
    return run.returncode


def _noted(report: Path) -> dict[str, dict[str, list[str]]]:
    """What the tests have noted with `record_property`, by server and name."""
    noted: dict[str, dict[str, list[str]]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        values = [(item.get("name", ""), item.get("value", "")) for item in case.iter("property")]
        row = noted.setdefault(dict(values).get("server", ""), {})
        for name, value in values:
            row.setdefault(name, []).append(value)
    return noted


def _table(noted: dict[str, dict[str, list[str]]]) -> str:
    lines = [["server", *(heading for heading, _ in COLUMNS)], ["---"] * (len(COLUMNS) + 1)]
    for name in (server.name for server in (*SERVERS, *MORE) if server.name in noted):
        row = noted[name]
        lines.append([name, *("<br>".join(row.get(column, ["**fails**"])) for _, column in COLUMNS)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main("--write" in sys.argv))

"""The benchmark: autocron-web beside the sqlite3 module, the original autocron and other queues, in one run.

    python benchmarks/bench.py [--quick] [--only NAME]… [--json FILE] [--folder FOLDER]

What each column means stands in docs/benchmarks.md. Every phase is a process of its own, bounded in time;
what it starts is ended with it. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peers
import processes
import report

HERE = Path(__file__).resolve().parent

#: What has to be importable for a peer, and which programs it starts.
NEEDS = {
    "raw": (),
    "autocron-web": ("autocron_web",),
    "autocron-1.2.2": ("autocron",),
    "celery": ("celery", "redis-server"),
    "dramatiq": ("dramatiq", "redis-server"),
    "rq": ("rq", "redis-server"),
    "saq": ("saq", "redis-server"),
}
PROGRAMS = {"redis-server"}

Options = dict[str, Any]
FULL: Options = {"rounds": 3, "jobs": 5000, "samples": 200, "idle": 30.0, "limit": 30.0}
QUICK: Options = {"rounds": 1, "jobs": 500, "samples": 50, "idle": 5.0, "limit": 20.0}
MEANING = {
    "rounds": "how often all is measured; the figures are the medians",
    "jobs": "jobs of a measurement of jobs a second",
    "samples": "single calls on an idle pool",
    "idle": "seconds of rest",
    "limit": "seconds after which a measurement is stopped",
}


class PhaseFailed(Exception):
    """A phase ended with an error or took too long; the message is for the report."""


def run_phase(name: str, phase: str, folder: Path, options: Options) -> dict[str, Any]:
    """Run one phase in a process of its own, and end whatever it leaves running.

    Raises `PhaseFailed` with the end of what it wrote.
    """
    mark = uuid.uuid4().hex
    result_file, options_file, log_file = (folder / f"{phase}.{end}" for end in ("json", "options", "log"))
    options_file.write_text(json.dumps(options))
    paths = [str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        processes.ENVIRONMENT: mark,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [
        sys.executable,
        str(HERE / "measure.py"),
        name,
        phase,
        *map(str, (folder, result_file, options_file)),
    ]
    allowed = 5 * options["limit"] + options["idle"] + 60
    with open(log_file, "wb") as log:
        process = subprocess.Popen(
            command, cwd=HERE, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_for(process, result_file, allowed)
        finally:
            processes.end(mark)
            process.wait()
    if not result_file.exists():
        tail = log_file.read_text(errors="replace").strip().splitlines()[-1:] or [
            f"no result within {allowed:g} s"
        ]
        raise PhaseFailed(f"{phase}: {tail[0]}")
    found: dict[str, Any] = json.loads(result_file.read_text())
    return found


def wait_for(process: subprocess.Popen[bytes], result_file: Path, seconds: float) -> None:
    """Until the process has ended; one that has its result and does not end gets ten seconds more."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if result_file.exists():
            deadline = min(deadline, time.monotonic() + 10)
        time.sleep(0.05)


#: The parts of a measurement: phases that share a folder.
PARTS = {"raw": ("raw",), "queue": ("fill", "drain"), "pool": ("live",)}


def measure(result: dict[str, Any], name: str, part: str, place: Path, options: Options) -> None:
    """One part of one peer's measurement, into `result`; what failed stands there under `failed`."""
    place.mkdir(parents=True)
    try:
        for phase in PARTS[part]:
            print(f"  {name}: {phase}", file=sys.stderr, flush=True)
            result |= run_phase(name, phase, place, options)
    except PhaseFailed as error:
        result.setdefault("failed", []).append(str(error))


def measure_all(names: Sequence[str], folder: Path, options: Options) -> list[dict[str, Any]]:
    """Every peer in every round, part by part: what is compared is measured at nearly the same time."""
    results: list[dict[str, Any]] = []
    for name in names:
        module = missing(name)
        results.append({"name": name, "missing": module} if module else {"name": name, "rounds": []})
    present = [result for result in results if "rounds" in result]
    for number in range(options["rounds"]):
        print(f"round {number + 1} of {options['rounds']}", file=sys.stderr, flush=True)
        # The cost of rest does not depend on how busy the machine is, so one measurement is enough.
        current = {**options, "idle": options["idle"] if number == 0 else 0}
        for result in present:
            result["rounds"].append({})
        for part in PARTS:
            for result in present:
                if (part == "raw") == (result["name"] == "raw"):
                    place = folder / f"{result['name']}-{number}" / part
                    measure(result["rounds"][-1], result["name"], part, place, current)
    return results


def missing(name: str) -> str | None:
    """The module or program that a peer needs and that is not there, or None."""
    for need in NEEDS.get(name, ("huey",)):
        found = shutil.which(need) if need in PROGRAMS else importlib.util.find_spec(need)
        if found is None:
            return need
    return None


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs: a look, not a result")
    parser.add_argument(
        "--only", action="append", choices=["raw", *peers.PEERS], help="measure this one (may be repeated)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there as well")
    parser.add_argument("--folder", type=Path, help="where the databases are made: a real disk, not memory")
    for option, value in FULL.items():
        parser.add_argument(
            f"--{option}", type=type(value), help=f"{MEANING[option]} ({value:g}; --quick: {QUICK[option]:g})"
        )
    return parser.parse_args()


def main() -> int:
    given = arguments()
    options = {**(QUICK if given.quick else FULL)}
    options |= {option: value for option in FULL if (value := getattr(given, option)) is not None}
    sys.path.insert(0, str(HERE.parent))  # autocron_web of this clone, installed or not
    names = [name for name in ("raw", *peers.PEERS) if not given.only or name in given.only]
    with tempfile.TemporaryDirectory(prefix="autocron-bench-", dir=given.folder) as folder:
        machine = report.machine(Path(folder))
        results = measure_all(names, Path(folder), options)
        machine["load at the end"] = report.load()
    document = {"machine": machine, "options": options, "results": results}
    print(report.text(document))
    if given.json:
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if any("failed" in round_ for result in results for round_ in result.get("rounds", ())) else 0


if __name__ == "__main__":
    sys.exit(main())

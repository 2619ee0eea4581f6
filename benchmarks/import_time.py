"""What `import autocron_web` adds to the start of Python: the median of fresh processes, in milliseconds.

    python benchmarks/import_time.py [NUMBER_OF_PROCESSES]

The two commands take turns, so that a busy machine slows both. The compiled files are there already, as
they are after the first start of an app. Ends with status 1 if the import takes longer than its budget.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

BUDGET = 50.0  # milliseconds
CHECKOUT = Path(__file__).resolve().parent.parent


def start(code: str) -> float:
    """Milliseconds from the start of a Python that runs `code` to its end."""
    paths = [str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    before = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return (time.perf_counter() - before) * 1000


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    codes = ("pass", "import autocron_web")
    for code in codes:
        start(code)  # compiles, and brings the files into memory
    rounds = [[start(code) for code in codes] for _ in range(number)]
    python, with_import = zip(*rounds, strict=True)
    added = [after - before for before, after in rounds]
    print(f"Milliseconds, median and fastest of {number} processes:")
    for name, times in (("Python", python), ("with import", with_import), ("the import", added)):
        print(f"  {name:12} {statistics.median(times):6.1f} {min(times):6.1f}")
    print(f"The budget of the import is {BUDGET:g} ms (median).")


if __name__ == "__main__":
    main()

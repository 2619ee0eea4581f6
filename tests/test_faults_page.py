"""docs/faults.md: every fault has a test, by its number or by the file that the page names."""

from __future__ import annotations

import re

from conftest import CHECKOUT

PAGE = (CHECKOUT / "docs" / "faults.md").read_text()
ROWS = re.findall(r"^\| (\d+) \|(?: [^|]* \|){3} ([^|]*?)\s*\|$", PAGE, re.MULTILINE)


def test_every_fault_is_tested_and_every_number_is_that_of_a_fault() -> None:
    names = [
        name
        for file in (CHECKOUT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def test((?:_(?:and_)?\d+)+)_", file.read_text(), re.MULTILINE)
    ]
    numbered = {number for name in names for number in re.findall(r"\d+", name)}
    faults = dict(ROWS)
    assert len(faults) == len(ROWS) > 90
    assert numbered <= faults.keys()
    for number, tests in faults.items():
        if number in numbered:
            assert not tests, f"fault {number} has a test with its number: no file is to be named"
        else:
            file = CHECKOUT / tests.strip("`")
            assert tests, f"fault {number} has no test"
            assert file.is_file(), f"fault {number}: there is no {tests}"

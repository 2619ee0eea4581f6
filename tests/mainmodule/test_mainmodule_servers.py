"""`python application.py`, with a task above the line that serves: it just works, whatever serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mainmodule_scripts import HEAD, SAMPLES, Sample
from mainmodule_site import Program, is_installed

from conftest import cannot_run

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not Path("/proc").exists(), reason="processes and sockets are looked up in /proc"),
]


@pytest.fixture
def program(nothing_left: list[Path]) -> Iterator[Program]:
    program = Program(nothing_left)
    yield program
    program.close()


#: Of each way to serve one: by a framework, by a server's call, with a reloader, in a loop, in a thread.
ALWAYS = ("flask", "django, reload", "waitress", "uvicorn", "aiohttp", "in a daemon thread")


@pytest.mark.parametrize(
    "sample",
    [
        pytest.param(
            sample,
            id=sample.name.replace(" ", "_"),
            marks=() if sample.name in ALWAYS else pytest.mark.matrix,
        )
        for sample in SAMPLES
    ],
)
def test_a_task_above_the_serve_call_runs_in_a_worker(
    sample: Sample, program: Program, record_property: Callable[[str, object], None]
) -> None:
    if not is_installed(sample.needs):
        cannot_run(f"{sample.needs} is not installed")
    program.write(application=sample.first + HEAD + sample.script)
    program.start()
    program.wait_until_serving()
    program.wait_for_pool()
    before = set(program.processes())
    program.get("/tell/first")
    ((_, _, pid, threads, signals),) = program.wait_for("tell")
    workers = set(program.processes("worker"))
    assert {int(pid)} == workers
    assert (threads, signals) == ("1", "none")  # nothing is left of what a server has set up before it binds
    assert not workers & {int(line[1]) for line in program.lines() if line[0] in ("startup", "shutdown")}
    listeners = program.listeners()
    assert listeners.keys() <= program.processes("").keys()
    assert len(set().union(*listeners.values())) == sample.sockets
    program.get("/tell/second")
    program.wait_for("tell", 2)
    assert set(program.processes()) == before
    assert "autocron:" not in program.log
    assert program.log.count(sample.banner or "Traceback") == bool(sample.banner)
    record_property("threads, signals", f"{threads}, {signals}")

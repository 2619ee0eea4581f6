"""Every server with the same app: one pool, each job once, new code after a reload, nothing left at the end.

`MATRIX=table` in the environment tries all servers of the table in docs/servers.md, not only some;
`MATRIX=full` (`make matrix`) still more, and endings that outlast the drain.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from server_site import FORK_WARNING, Site
from server_table import MORE, SERVERS, Reload, Server

from conftest import cannot_run

MATRIX = os.environ.get("MATRIX")
FULL = MATRIX == "full"

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked for in /proc"),
]

CHOSEN = [*(server for server in SERVERS if server.always or MATRIX), *(MORE if FULL else ())]

#: Whether a job runs on when linger and drain are over.
OUTLASTS = [
    pytest.param(False, id="job-ends"),
    *([pytest.param(True, id="job-outlasts-all")] if FULL else []),
]

JOBS = 60
LINGER, DRAIN = 5.0, 10.0
SLACK = 1.0  # seconds: promised beyond linger and drain
PROMPT = 2.0  # seconds that a server may take longer to end than without us: some look once a second

ENDINGS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)

#: What would be ours in the server's output: a message, a traceback through this package, a thread's end.
OURS = re.compile(rf"^autocron: |autocron_web/|autocron-link|{FORK_WARNING}", re.MULTILINE)

Note = Callable[[str, object], None]
MakeSite = Callable[..., Site]


@pytest.fixture
def make_site(nothing_left: list[Path]) -> Iterator[MakeSite]:
    """`make_site(server, **environment)`: a site that is not started yet, and is killed after the test."""
    sites: list[Site] = []

    def make(server: Server, **environment: str) -> Site:
        if server.user and os.geteuid() != 0:
            cannot_run("only root can start a server that drops its rights")
        if server.debug:
            environment["SHOP_DEBUG"] = "1"
        site = Site(server.argv, environment, server.user)
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


def in_id(value: Server | Reload) -> str:
    """How a parameter is written in a test's name."""
    return re.sub(r"[^\w-]+", "_", value.name).strip("_")


each_server = pytest.mark.parametrize("server", CHOSEN, ids=in_id)


@each_server
def test_each_job_runs_once_in_one_pool(server: Server, make_site: MakeSite, record_property: Note) -> None:
    record_property("server", server.name)
    site = make_site(server, SHOP_WORKERS="3")
    site.start()
    pool = site.wait_for_pool(workers=3)
    words = [f"w{number}" for number in range(JOBS)]
    with ThreadPoolExecutor(6) as threads:
        callers = set(threads.map(lambda word: site.post(f"/tell/{word}"), words))
    site.wait_for("tell", JOBS)
    site.wait(lambda: all(job.state == "done" for job in site.jobs()), 10, "the end of all jobs")
    assert sorted(line[1] for line in site.lines("tell")) == sorted(words)
    assert {job.attempt for job in site.jobs()} == {1}
    assert site.pool() == pool
    if server.recycles:
        assert len(callers) >= 5  # of which each but one has ended since
    says_nothing(site)
    record_property("jobs", f"{JOBS} of {JOBS}")
    record_property("pool", f"{len(pool[0])} + {len(pool[1])}")


@pytest.mark.parametrize(
    ("server", "reload"), [(server, reload) for server in CHOSEN for reload in server.reloads], ids=in_id
)
def test_a_reload_finishes_the_running_job_and_brings_the_new_code(
    server: Server, reload: Reload, make_site: MakeSite, record_property: Note
) -> None:
    record_property("server", server.name)
    site = make_site(server)
    site.start()
    monitors, workers = site.wait_for_pool()
    site.wait_for("tick first")
    for word in "ab":
        site.post(f"/hold/{word}")
        site.wait_for(f"begin {word} first")
    site.release("b")
    site.wait_for("end b first")  # one worker is busy, the other one idle
    site.deploy("second")
    began = time.monotonic()
    reload.do(site)
    site.wait_for_release("second")
    site.post_to("second", "/tell/c")
    site.wait_for("tell c second")
    seconds = time.monotonic() - began
    site.release("a")
    site.wait_for("end a first")
    assert len(site.lines("begin a")) == 1
    site.wait(lambda: not set(site.pool()[1]) & set(workers), 10, "the end of the workers with the old code")
    assert site.wait_for_pool()[0] == monitors
    site.wait(lambda: {job.state for job in site.jobs()} == {"done"}, 10, "the end of all jobs")
    assert {job.attempt for job in site.jobs()} == {1}
    site.wait_for("tick second")
    slots = slots_that_ran_once(site)
    says_nothing(site)
    record_property("slots", f"{slots} of {slots}")
    record_property("reload", f"{reload.words}: {seconds:.1f} s")


@pytest.mark.parametrize("outlasts", OUTLASTS)
@pytest.mark.parametrize("server", [server for server in CHOSEN if MATRIX or not server.recycles], ids=in_id)
def test_nothing_is_left_when_the_server_has_ended(
    server: Server, make_site: MakeSite, record_property: Note, outlasts: bool
) -> None:
    record_property("server", server.name)
    sites = {ending.name: (ending, make_site(server)) for ending in ENDINGS}
    without = make_site(server, AUTOCRON_MODE="off")
    for site in [without, *(site for _, site in sites.values())]:
        site.launch()
    without.wait_until_serving()
    for _, site in sites.values():
        site.wait_until_serving()
        site.post("/hold/a")
        site.wait_for("begin a first")
    exits = {"without": seconds_to_exit(without, signal.SIGTERM)}
    ended = {}
    for name, (ending, site) in sites.items():
        exits[name] = seconds_to_exit(site, ending)
        ended[name] = time.monotonic()
        if not outlasts:
            site.release("a")
    for name, (_, site) in sites.items():
        left = ended[name] + LINGER + DRAIN + SLACK - time.monotonic()
        site.wait(lambda site=site: not site.processes(), left, f"the end of the pool after {name}")  # type: ignore[misc]
        gone = time.monotonic() - ended[name] + exits[name]
        assert len(site.lines("end a")) == (not outlasts)
        (job,) = site.jobs()
        assert (job.state, job.attempt, job.crashes) == ("waiting" if outlasts else "done", 1, 0)
        says_nothing(site)
        record_property(name, f"{gone:.1f} s")
    assert exits["SIGTERM"] < exits["without"] + PROMPT
    record_property("exit", f"{exits['SIGTERM']:.1f} s ({exits['without']:.1f} s)")


def seconds_to_exit(site: Site, ending: signal.Signals) -> float:
    """End the server; how long its processes took."""
    began = time.monotonic()
    site.signal(ending)
    site.wait_for_exit()
    return time.monotonic() - began


def slots_that_ran_once(site: Site) -> int:
    """Fail unless each slot of the cron has one job, and each job has run once; how many there are."""
    finished = [job for job in site.jobs("cron") if job.state == "done"]
    ran = len(site.lines("tick"))
    jobs = site.jobs("cron")
    assert len(finished) <= ran <= len(jobs)
    assert len({job.due for job in jobs}) == len(jobs)
    assert {job.attempt for job in finished} == {1}
    return ran


def says_nothing(site: Site) -> None:
    """Nothing of ours is in the server's output, and no fork of a process with threads of ours."""
    found = OURS.search(site.log)
    assert found is None, site.log

"""The states of the jobs that a worker has in hand: what follows from what, and what cannot be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autocron_web.pool.inflight import ImpossibleError, InFlight, Run, State
from autocron_web.pool.loop import Timer

pytestmark = pytest.mark.once


def working(*prefetched: str) -> InFlight:
    """A worker that runs the job `a`, behind which these lie ready."""
    jobs = InFlight()
    jobs.hand_over("a", Run(None))
    for job_id in prefetched:
        jobs.prefetch(job_id, Run(None))
    return jobs


def states(jobs: InFlight) -> dict[str, str]:
    return {job_id: jobs[job_id].state.value for job_id in jobs}


def test_what_is_told_on_the_shelf_says_that_the_next_job_has_begun() -> None:
    jobs = working("b", "c")
    run, following = jobs.end_on_shelf("a")
    assert (run.state, following) == (State.ENDED, "b")
    assert states(jobs) == {"b": "begun", "c": "prefetched"}
    assert (jobs.prefetched, jobs.behind, list(jobs.begun)) == (1, 1, ["b"])


def test_what_is_told_on_the_line_does_not() -> None:
    jobs = working("b", "c")
    jobs.end_on_line("a")
    assert states(jobs) == {"b": "prefetched", "c": "prefetched"}
    assert not jobs.begun
    jobs.begin_next("b")
    assert states(jobs) == {"b": "begun", "c": "prefetched"}


def test_what_cannot_be_taken_back_has_begun_unheard() -> None:
    jobs = working("b", "c", "d")
    assert jobs.take_back(["c", "d"]) == ["b"]
    assert states(jobs) == {"a": "begun", "b": "begun"}
    assert (jobs.prefetched, jobs.behind) == (0, 1), "the end of a is still to be read from the shelf"
    assert jobs.end_on_shelf("a")[1] is None
    jobs.end_on_line("b")
    assert not jobs


def test_no_clock_goes_on_in_a_later_state() -> None:
    run = Run(1.0)
    run.move(State.BEGUN)
    run.clock = timeout = Timer(1.0, lambda: None, lambda: None)
    run.move(State.STOPPING)
    assert timeout.callback is None
    run.clock = grace = Timer(5.0, lambda: None, lambda: None)
    run.move(State.ENDED)
    assert grace.callback is None


def shared() -> InFlight:
    jobs = InFlight()
    for job_id in "ab":
        jobs.hand_over(job_id, Run(None, 3))
    return jobs


def after_the_line() -> InFlight:
    jobs = working("b", "c")
    jobs.end_on_line("a")
    return jobs


@pytest.mark.parametrize(
    ("jobs", "move"),
    [
        (working, lambda jobs: jobs.hand_over("b", Run(None))),
        (working, lambda jobs: jobs.hand_over("b", Run(None, 3))),
        (shared, lambda jobs: jobs.hand_over("a", Run(None, 3))),
        (shared, lambda jobs: jobs.hand_over("c", Run(None))),
        (shared, lambda jobs: jobs.prefetch("c", Run(None))),
        (shared, lambda jobs: jobs.end_on_shelf("b")),
        (InFlight, lambda jobs: jobs.prefetch("a", Run(None))),
        (working, lambda jobs: jobs.end_on_shelf("a")),
        (lambda: working("b"), lambda jobs: jobs.end_on_shelf("b")),
        (lambda: working("b"), lambda jobs: jobs.end_on_line("b")),
        (lambda: working("b"), lambda jobs: jobs.abandon("b")),
        (lambda: working("b"), lambda jobs: jobs.take_back(["a"])),
        (lambda: working("b"), lambda jobs: jobs["b"].move(State.STOPPING)),
        (working, lambda jobs: jobs["a"].move(State.PREFETCHED)),
        (after_the_line, lambda jobs: jobs.begin_next("c")),
        (after_the_line, lambda jobs: jobs.end_on_line("b")),
        (after_the_line, lambda jobs: jobs.end_on_shelf("b")),
    ],
)
def test_what_cannot_be_is_refused(jobs: Callable[[], InFlight], move: Callable[[InFlight], object]) -> None:
    with pytest.raises(ImpossibleError):
        move(jobs())

"""Any order of what may happen in a pool: slow and dying workers, cancels, timeouts, deploys, a slow store.

AUTOCRON_RANDOM_STEPS: how many steps; 10,000.
AUTOCRON_RANDOM_SHRINK: set to anything, a failure is made as short as it can be, which takes minutes.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pool_model import TASKS, PoolModel

STEPS = int(os.environ.get("AUTOCRON_RANDOM_STEPS") or 10_000)
LENGTH = 60  # steps of one pool

HOW = st.sampled_from(["return"] * 8 + ["print"] * 8 + ["fail"] * 2 + ["report", "spend", "unknown"])
WHICH = st.integers(0, 7)


class Pool(RuleBasedStateMachine):
    """One pool, of which the workers are ready and know that `shop.short` is short."""

    model: PoolModel

    @initialize(
        workers=st.sampled_from([1, 1, 2, 2, 3]), max_jobs=st.sampled_from([None, None, None, 5]),
        backlog=st.integers(0, 12), timeout=st.sampled_from([None, 1.0]),
    )  # fmt: skip
    def begin(self, workers: int, max_jobs: int | None, backlog: int, timeout: float | None) -> None:
        self.model = PoolModel(workers, max_jobs)
        self.model.dispatch.accept(True)
        self.model.enqueue("shop.short", 3)
        for _ in range(20):
            self.go_on()
        self.enqueue("shop.short", backlog, timeout, 0, 0)

    # -- the app ---------------------------------------------------------------------------------------

    @rule(
        task=st.sampled_from([*TASKS, "shop.short", "shop.short"]), count=st.integers(1, 8),
        timeout=st.sampled_from([None, None, 0.03, 1.0]), retries=st.integers(0, 1),
        priority=st.integers(0, 1),
    )  # fmt: skip
    def enqueue(self, task: str, count: int, timeout: float | None, retries: int, priority: int) -> None:
        meta = {} if timeout is None else {"timeout": timeout}
        if count:
            self.model.enqueue(task, count, priority=priority, retries=retries, backoff=0, jitter=0, **meta)

    @rule(which=st.integers(0, 20), in_task=st.booleans(), at_once=st.booleans())
    def cancel(self, which: int, in_task: bool, at_once: bool) -> None:
        """One of the newest."""
        job_ids = list(self.model.rows.jobs)
        if job_ids:
            job_id = job_ids[-1 - which % len(job_ids)]
            (self.model.cancel_in_task if in_task else self.model.cancel_in_app)(job_id)
            if at_once:
                self.model.deliver_cancel()

    @rule()
    def deliver_cancel(self) -> None:
        self.model.deliver_cancel()

    @rule(accepting=st.booleans())
    def leave_or_join(self, accepting: bool) -> None:
        self.model.dispatch.accept(accepting)

    @rule(what=st.sampled_from(["code", "module", "module", "size", "retire"]), number=st.integers(1, 3))
    def deploy(self, what: str, number: int) -> None:
        crew = self.model.crew
        if what == "code":
            self.model.load_newer_code()
        elif what == "module":
            self.model.add_module()
        elif what == "size":
            crew.fix_size(number)
        elif staying := [worker for worker in crew.workers if worker.is_staying]:
            crew.retire(staying[number % len(staying)])

    # -- what goes on at its own pace ------------------------------------------------------------------

    @rule(commit=st.booleans())
    def store(self, commit: bool) -> None:
        self.model.thread.commit() if commit else self.model.thread.answer()

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.004, 0.004, 0.02, 0.06, 0.06, 1.1, 6.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.model.loop.moment += seconds
        self.model.loop.turn()

    @rule(which=WHICH, how=HOW, count=st.integers(1, 3))
    def work(self, which: int, how: str, count: int) -> None:
        stand_ins = list(self.model.stand_ins.values())
        for _ in range(count if stand_ins else 0):
            stand_ins[which % len(stand_ins)].step(how)

    @rule(how=HOW, monitor_last=st.booleans(), rounds=st.integers(1, 3))
    def go_on(self, how: str = "return", *, monitor_last: bool = False, rounds: int = 1) -> None:
        """A little of all: now the monitor has heard what the workers have said, now they have heard it."""
        for _ in range(rounds):
            self.model.thread.commit()
            self.model.thread.answer()
            if not monitor_last:
                self.model.loop.turn()
            for stand_in in list(self.model.stand_ins.values()):
                stand_in.step(how)
            if monitor_last:
                self.model.loop.turn()

    @rule(which=WHICH, dies=st.sampled_from([True, False, False]), reap=st.booleans())
    def die(self, which: int, dies: bool, reap: bool) -> None:
        """A worker is killed, perhaps, and the monitor hears of that, perhaps."""
        stand_ins = list(self.model.stand_ins.values())
        if dies and stand_ins:
            stand_ins[which % len(stand_ins)].die()
        if reap:
            self.model.reap()

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "model"):
            self.model.check()

    def teardown(self) -> None:
        if hasattr(self, "model"):
            try:
                self.model.settle()
            finally:
                self.model.close()


@pytest.mark.once
@pytest.mark.timeout(60 + STEPS / 100)
def test_any_order_of_what_may_happen() -> None:
    run_state_machine_as_test(
        Pool,
        settings=settings(
            max_examples=max(1, STEPS // LENGTH), stateful_step_count=LENGTH, deadline=None, database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
            phases=[Phase.generate, *([Phase.shrink] if os.environ.get("AUTOCRON_RANDOM_SHRINK") else [])],
        ),
    )  # fmt: skip

"""Tasks that do not end by themselves: faults 44 and 45, and how a task can clean up when it is stopped."""

from __future__ import annotations

import pytest

from conftest import wait_until
from pool_app import pids
from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401


def test_a_task_that_is_stopped_can_clean_up(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay(timeout=1)
        def tidy(word):
            try:
                note("begin", word)
                if word == "ask":
                    tell.options(hours=1).enqueue("never").get()
                while True:
                    time.sleep(0.01)  # the line where it is
            except Exception:
                note("held up", word)
            except autocron.JobStopped as stopped:
                note("stopped", word, stopped)
                raise
            finally:
                note("tidied", word)

        @autocron.delay(timeout=1)
        def own_way():
            def leave(number, frame):
                note("own handler")
                sys.exit(1)
            signal.signal(signal.SIGTERM, leave)
            time.sleep(300)

        @autocron.delay(timeout=1)
        def swallow():
            try:
                time.sleep(300)
            except autocron.JobStopped:
                return "I am done"
        """)
    way("""
        reason = "the job ran longer than its timeout of 1 s and was ended"
        results = [tidy("loop"), tidy("ask"), own_way(), swallow()]
        for r in results:
            assert reason in raised(autocron.JobFailed, r.get, 20)
        equal([r.attempt for r in results], [1] * 4)
        equal(sorted(noted("stopped")), [f"stopped ask {reason}", f"stopped loop {reason}"])
        equal((sorted(noted("tidied")), noted("own")), (["tidied ask", "tidied loop"], ["own handler"]))
        assert noted("held up") == [], noted()
        text = results[0].error_message
        assert "# the line where it is" in text and text.endswith(f"JobStopped: {reason}"), text
        assert "autocron_web/pool" not in text, text

        r = tidy.options(timeout=None).enqueue("cancel")
        until(lambda: noted("begin cancel"))
        equal(r.cancel(), True)
        text = raised(autocron.JobCancelled, r.get, 10)
        until(lambda: noted("tidied cancel"))
        equal(noted("stopped cancel"), ["stopped cancel cancelled while it ran"])
        equal(add(1).get(10), 11)
        """)


def test_a_coroutine_that_is_stopped_is_cancelled(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay(timeout=0.5)
        async def tidy():
            try:
                await asyncio.sleep(300)
            except asyncio.CancelledError:
                note("cancelled")
                raise
            finally:
                await asyncio.sleep(0.01)
                note("tidied")

        @autocron.delay(timeout=0.5, retries=1, backoff=0)
        async def block():
            note("block")
            time.sleep(300)  # the loop does not turn, so nothing can be cancelled
        """)
    way("""
        results = [tidy(), block()]
        for r in results:
            assert "its timeout of 0.5 s" in raised(autocron.JobFailed, r.get, 30)
        equal([line for line in noted() if line != "block"], ["cancelled", "tidied"])
        assert "CancelledError: the job ran longer than" in results[0].error_message, results[0].error_message
        equal((len(noted("block")), results[1].attempt), (2, 2))
        """)


@pytest.mark.once
def test_44_and_45_what_heeds_no_signal_is_killed_after_the_grace(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay(timeout=0.5)
        def ignore():
            for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
                signal.signal(number, signal.SIG_IGN)
            print("ignoring", flush=True)
            while True:
                pass

        @autocron.delay(timeout=0.5)
        def catch():
            while True:
                try:
                    time.sleep(300)
                except BaseException:
                    pass

        @autocron.delay(timeout=0.5)
        def c_loop():
            deque(itertools.count(), maxlen=0)  # holds the GIL for ever

        @autocron.delay
        def child():
            process = subprocess.Popen(["sleep", "300"])
            note("child", process.pid)
            deque(itertools.count(), maxlen=0)
        """)
    way(
        """
        results = [ignore(), catch(), c_loop()]
        r = child()
        until(lambda: noted("child"))
        r.cancel()
        for result in results:
            text = raised(autocron.JobFailed, result.get, 30)
            assert "the job ran longer than its timeout of 0.5 s and was ended" in text, text
            lasted = (result.finished - result.started).total_seconds()
            assert 0.5 <= lasted <= 0.5 + 5 + 3, lasted  # 1 s on a machine that is not so busy
        raised(autocron.JobCancelled, r.get, 20)
        pid = noted("child")[0].split()[1]
        until(lambda: not os.path.exists(f"/proc/{pid}"))
        equal(results[0].output, "ignoring\\n")
        equal(add(1).get(20), 11)
        """,
        workers=4,
    )


@pytest.mark.once
def test_a_worker_that_is_being_ended_is_replaced_at_once(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay(timeout=0.2)
        def stubborn():
            deque(itertools.count(), maxlen=0)
        """)
    script = way("raised(autocron.JobFailed, stubborn().get, 20)", workers=1, wait=False)
    wait_until(lambda: len(pids("worker")) == 2, 20, "a second worker, in the grace of the first")
    script.succeed()


def test_a_signal_to_all_processes_does_not_stop_tasks(way: Way, with_tasks: WithTasks) -> None:
    """As from a service manager or Ctrl-C: the monitor gets it too, and lets jobs finish."""
    way(
        """
        r = hold("a")
        until(lambda: noted("begin"))
        pid = int(noted("begin")[0].split()[2])
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        release("a")
        equal((r.get(10), r.attempt), ("a", 1))
        """,
        workers=1,
    )

"""The modes inline and off, and a plain script."""

from __future__ import annotations

from pathlib import Path

from autocron_web.store.sqlite import SqliteStore
from conftest import RunScript, pool_processes
from pool_way import Way, store, way  # noqa: F401


def test_inline_runs_each_call_at_once_in_the_caller(way: Way, home: Path) -> None:
    way(
        """
        equal(started, False)
        r = tell.options(hours=1).enqueue("here")
        equal((r.status, r.is_ready(), r.get(), noted()), ("done", True, os.getpid(), ["here"]))
        r = fail("x")
        equal(r.has_error, True)
        assert "no such user: x" in raised(autocron.JobFailed, r.get)
        equal((r.attempt, r.cancel()), (1, False))
        raised(autocron.NotStorable, add, object())
        equal([r.task for r in autocron.get_results()], ["shop.fail", "shop.tell"])
        equal([r.task for r in autocron.get_results(state="done")], ["shop.tell"])

        @autocron.delay
        async def nap():
            await asyncio.sleep(0)
            return "rested"

        equal(nap().get(), "rested")

        async def main():
            equal(await add(1), 11)
            equal(await (await add.aenqueue(1)), 11)
            equal(await (await nap.aenqueue()), "rested")
            equal(await nap(), "rested")

        asyncio.run(main())
        equal(autocron.stop(), True)
        """,
        env={"AUTOCRON_MODE": "inline"},
    )
    assert list(home.iterdir()) == []


def test_off_stores_and_starts_nothing(way: Way, store: SqliteStore) -> None:
    way(
        """
        equal((started, autocron.stop()), (False, True))
        r = add(1)
        raised(autocron.ResultTimeout, r.get, 0.1)
        equal((r.status, r.cancel(), r.status), ("waiting", True, "cancelled"))
        add(2)
        """,
        env={"AUTOCRON_MODE": "off"},
    )
    assert pool_processes() == {}
    assert [job.state for job in store.jobs()] == ["waiting", "cancelled"]
    way("until(lambda: autocron.get_results(state='done'))")


def test_a_plain_script_can_wait_for_its_own_job(run_script: RunScript) -> None:
    """Without a guard: a worker executes the script too, up to the line that would wait."""
    script = run_script("""
import autocron_web as autocron

@autocron.delay
def add(a, b):
    return a + b

autocron.start("plain.db")
print("the sum is", add(1, 2).get(timeout=10))
assert autocron.stop(10)
""")
    assert script.stdout.splitlines().count("the sum is 3") == 1

"""Where a module that waits has nothing more to define, and where it has."""

from __future__ import annotations

import textwrap

import pytest

from autocron_web.pool.waiting import defines_more

#: The line that waits has the comment `# here`.
ENDS = {
    "endless loop": """
        while True:
            now = clock()
            sleep(1)  # here
        """,
    "last call": "server.join()  # here",
    "only calls below": """
        event.wait()  # here
        autocron.stop()
        print("bye")
        """,
    "definitions above": """
        import os
        def task(): ...
        main()  # here
        """,
    "below an endless loop": """
        while 1:
            sleep(1)  # here
        def never(): ...
        """,
    "in a branch": """
        if debug:
            app = None
        else:
            serve()  # here
        """,
    "in a try": """
        try:
            serve()  # here
        finally:
            stop()
        """,
}

GOES_ON = {
    "assignment": "database = connect()  # here",
    "function below": """
        wait_for_database()  # here
        def task(): ...
        """,
    "import below": """
        wait_for_database()  # here
        import tasks
        """,
    "import itself": "import slow  # here",
    "retries": """
        while True:
            try:
                database = connect()
                break
            except OSError:
                sleep(1)  # here
        """,
    "loop with an end": """
        for attempt in range(10):
            sleep(1)  # here
        app = make()
        """,
    "below the branch": """
        if slow:
            wait()  # here
        class Thing: ...
        """,
    "no Python": "serve(  # here",
}


def line_of(source: str) -> int:
    return next(number for number, line in enumerate(source.splitlines(), 1) if "# here" in line)


@pytest.mark.parametrize("source", ENDS.values(), ids=ENDS.keys())
def test_nothing_is_defined_from_here_on(source: str) -> None:
    source = textwrap.dedent(source)
    assert not defines_more(source, line_of(source))


@pytest.mark.parametrize("source", GOES_ON.values(), ids=GOES_ON.keys())
def test_something_is_still_to_be_defined(source: str) -> None:
    source = textwrap.dedent(source)
    assert defines_more(source, line_of(source))


def test_a_function_that_waits_is_looked_at_alone() -> None:
    source = textwrap.dedent("""
        @decorated
        def main():
            serve()  # here

        def other(): ...
        main()
        """)
    assert not defines_more(source, 4, function=2)
    assert defines_more(source, 4)
    assert defines_more(source, 4, function=99)  # not to be found

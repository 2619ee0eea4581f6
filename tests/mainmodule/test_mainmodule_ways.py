"""The ways in which a program can hold its tasks: packages, guards, factories, circles, deploys."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from mainmodule_scripts import HEAD, SERVE, WSGIREF
from mainmodule_site import Program, is_installed

from conftest import RunScript, cannot_run, free_port

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked up in /proc")

#: Something that keeps a program alive, and that no worker goes beyond.
FOREVER = "\nsignal.pause()\n"

#: A program without a server: its tasks, and what it does is added below.
PLAIN = HEAD.replace("PORT = int(sys.argv[1])", "")

UNDER_GUARD = "if __name__ == '__main__':\n    "


@pytest.fixture
def program(nothing_left: list[Path]) -> Iterator[Program]:
    program = Program(nothing_left)
    yield program
    program.close()


def worker_of(program: Program, word: str) -> int:
    """The process that ran `tell(word)`, once it has."""
    program.wait(lambda: any(line[1] == word for line in program.lines("tell")), 30, f"tell {word}")
    return next(int(line[2]) for line in program.lines("tell") if line[1] == word)


# -- how it is started ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "command", "task"),
    [
        ("shop__app", ("-m", "shop.app"), "shop.app.tell"),
        ("shop____main__", ("-m", "shop"), "shop.__main__.tell"),
        ("shop____main__", ("shop",), "shop.tell"),
        ("shop__app", ("shop/app.py",), "app.tell"),
        ("calendar", ("calendar.py",), "calendar.tell"),  # a name that the standard library has too
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_program_can_be_started_in_each_way(
    program: Program, file: str, command: tuple[str, ...], task: str
) -> None:
    relative = "from . import words\n" if command[0] == "-m" else "import words\n"
    program.write(shop__words="WORD = 'a'", words="WORD = 'a'")
    program.write(**{file: relative + PLAIN + "tell(words.WORD)" + FOREVER})
    program.start(*command)
    assert worker_of(program, "a") in program.processes("worker")
    assert [job.task for job in program.jobs()] == [task]


def test_a_program_without_py_in_its_name_leaves_no_cache_beside_it(program: Program) -> None:
    (program.code / "serve").write_text(PLAIN + "tell('a')" + FOREVER)
    program.start("serve")
    assert worker_of(program, "a") in program.processes("worker")
    assert [path.name for path in program.code.iterdir()] == ["serve"]


def test_a_main_module_without_tasks_is_not_executed_by_workers(program: Program) -> None:
    program.write(
        jobs=PLAIN.replace("autocron.start", "pass  #"),
        application="import os, signal\nimport autocron_web as autocron\nimport jobs\n"
        "jobs.note('main', os.getpid())\nautocron.start('main.db', workers=1)\njobs.tell('a')" + FOREVER,
    )
    app = program.start()
    assert worker_of(program, "a") in program.processes("worker")
    assert program.lines("main") == [["main", str(app.pid)]]
    assert [job.task for job in program.jobs()] == ["jobs.tell"]


@pytest.mark.once
@pytest.mark.parametrize("framework", ["bottle", "tornado"])
def test_tasks_may_as_well_be_in_a_module_of_their_own(program: Program, framework: str) -> None:
    if not is_installed(framework):
        cannot_run(f"{framework} is not installed")
    serve = {
        "bottle": "import bottle\nbottle.run(wsgi, host='127.0.0.1', port=PORT)",
        "tornado": "import tornado.httpserver, tornado.ioloop, tornado.wsgi\n"
        "tornado.httpserver.HTTPServer(tornado.wsgi.WSGIContainer(wsgi)).listen(PORT, '127.0.0.1')\n"
        "tornado.ioloop.IOLoop.current().start()",
    }
    program.write(jobs=HEAD.replace("autocron.start", "pass  #"))
    program.write(
        application="import autocron_web as autocron\nfrom jobs import PORT, wsgi\n"
        "autocron.start('main.db', workers=1)\n" + serve[framework]
    )
    program.start()
    program.wait_until_serving()
    program.get("/tell/a")
    assert worker_of(program, "a") in program.processes("worker")
    assert not program.listeners().keys() & program.processes("worker").keys()


@pytest.mark.once
def test_python_and_gunicorn_give_tasks_of_the_same_file_the_same_names(program: Program) -> None:
    if not is_installed("gunicorn"):
        cannot_run("gunicorn is not installed")
    head = HEAD.replace("sys.argv[1]", "os.environ['PORT']")
    program.write(application=head + WSGIREF + UNDER_GUARD + SERVE)
    program.start("application.py", PORT=str(program.port))
    program.wait_until_serving()
    program.get("/tell/python")
    worker_of(program, "python")
    program.port = free_port()
    program.start("gunicorn", "-b", f"127.0.0.1:{program.port}", "application:wsgi", PORT=str(program.port))
    program.wait_until_serving()
    program.get("/tell/gunicorn")
    worker_of(program, "gunicorn")
    program.wait(lambda: {job.state for job in program.jobs()} == {"done"}, 10, "the end of both jobs")
    assert {job.task for job in program.jobs()} == {"application.tell"}
    assert len(program.processes("monitor")) == 1


# -- how it is written -----------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("guarded", [True, False])
def test_tasks_in_a_factory_run_in_the_context_of_its_app(program: Program, guarded: bool) -> None:
    if not is_installed("flask"):
        cannot_run("flask is not installed")
    serve = "create_app('hello').run(port=PORT)"
    program.write(
        application=HEAD.replace("autocron.start", "pass  #")
        + f"""
from flask import Flask, current_app
from autocron_web.flask import AutocronFlask

def create_app(word):
    app = Flask(__name__)
    app.config.update(AUTOCRON_DATABASE="main.db", AUTOCRON_WORKERS=1, WORD=word)
    AutocronFlask(app)

    @autocron.delay
    def inner():
        tell.call(current_app.config["WORD"])

    @app.get("/")
    def index():
        return "here"

    @app.get("/inner")
    def call_inner():
        return inner().id

    return app

{UNDER_GUARD if guarded else ""}{serve}
"""
    )
    program.start()
    program.wait_until_serving()
    program.get("/inner")
    assert worker_of(program, "hello") in program.processes("worker")
    assert [job.task for job in program.jobs()] == ["application.create_app.inner"]


def test_modules_may_import_the_main_module_back(program: Program) -> None:
    program.write(
        jobs="""
import pickle
import __main__
import autocron_web as autocron

@autocron.delay
def show(data):
    from application import VALUE, note
    from __main__ import tell
    note("show", VALUE, __main__.VALUE, type(pickle.loads(data)).__name__, tell.name)
""",
        application=PLAIN
        + """
import pickle

VALUE = "value"

class Thing:
    pass

import jobs

if __name__ == "__main__":
    jobs.show(pickle.dumps(Thing()))
    signal.pause()
""",
    )
    program.start()
    assert program.wait_for("show") == [["show", "value", "value", "Thing", "application.tell"]]


def test_a_circle_that_no_server_could_import_is_explained(program: Program) -> None:
    program.write(
        jobs="from application import tell\n",
        application="import jobs\n" + PLAIN + UNDER_GUARD + "tell('a'); signal.pause()",
    )
    program.start()
    program.wait(lambda: "a worker cannot start" in program.log, 20, "the sentence")
    program.wait(lambda: "import it below the names that it needs" in program.log, 1, "the way out")


# -- what cannot be found, and why -----------------------------------------------------------------------


def test_a_task_below_the_line_that_serves_is_explained_once(program: Program) -> None:
    program.write(
        application=HEAD
        + WSGIREF
        + """
server = make_server("127.0.0.1", PORT, wsgi)  # the line
server.handle_request()


@autocron.delay
def below():
    note("below", os.getpid())


tell("above")
below(), below()
signal.pause()
"""
    )
    program.start()
    program.wait_until_serving()
    worker_of(program, "above")
    program.wait(lambda: "no worker knows" in program.log, 20, "the sentence")
    line = (
        (program.code / "application.py")
        .read_text()
        .splitlines()
        .index('server = make_server("127.0.0.1", PORT, wsgi)  # the line')
    )
    words = [
        "application.below",
        f"line {line + 1} of {program.code / 'application.py'}",
        '`server = make_server("127.0.0.1", PORT, wsgi)  # the line`',
        "`if not autocron.in_worker():`",
    ]
    assert [word for word in words if word not in program.log] == []
    tell_more(program)
    assert program.log.count("no worker knows") == 1
    waiting = [(job.state, job.reason) for job in program.jobs() if job.task == "application.below"]
    assert waiting == [("waiting", "unknown task")] * 2


def tell_more(program: Program) -> None:
    """Another program calls a task that is known, so that the pool has been at work since."""
    program.write(
        caller="import autocron_web as autocron\n"
        "@autocron.delay(name='application.tell')\n"
        "def tell(word): ...\n"
        "import os; os.environ['AUTOCRON_MODE'] = 'off'\n"
        "autocron.start('main.db', app_id='application')\n"
        "tell('more').get(20)\n"
    )
    assert program.start("caller.py").wait(30) == 0


def test_a_side_server_in_the_middle_of_the_module_is_explained(program: Program) -> None:
    side = "side = socket.create_server(('127.0.0.1', PORT))"
    program.write(
        application="import socket, sys\n"
        f"PORT = int(sys.argv[1])\n{side}\n"
        + HEAD.replace("PORT = int(sys.argv[1])", "")
        + "tell('a')"
        + FOREVER
    )
    program.start()
    program.wait(lambda: "no worker knows" in program.log, 20, "the sentence")
    assert f"line 3 of {program.code / 'application.py'}, `{side}`" in program.log


def test_a_task_under_the_guard_is_explained(program: Program) -> None:
    task = "@autocron.delay\n    def hidden(): ...\n    hidden(); tell('a'); signal.pause()"
    program.write(application=PLAIN + UNDER_GUARD + task)
    program.start()
    worker_of(program, "a")
    program.wait(lambda: "no worker knows application.hidden" in program.log, 20, "the sentence")
    assert '`if __name__ == "__main__":`' in program.log


def test_a_renamed_task_waits_until_one_has_its_name(program: Program) -> None:
    program.write(application=PLAIN + "tell.options(seconds=1).enqueue('a')\nautocron.stop(10)")
    assert program.start().wait(30) == 0
    renamed = PLAIN.replace("def tell(", "def speak(").replace("return tell(", "return speak(")
    program.write(application=renamed + UNDER_GUARD + "signal.pause()")
    old = program.start()
    program.wait(lambda: "no worker knows application.tell" in program.log, 20, "the sentence")
    assert [(job.state, job.reason) for job in program.jobs()] == [("waiting", "unknown task")]
    aliased = renamed.replace("@autocron.delay", "@autocron.delay(name='application.tell')")
    program.write(application=aliased + UNDER_GUARD + "signal.pause()")
    program.start()
    assert worker_of(program, "a") in program.processes("worker")
    assert old.poll() is None


# -- what happens while it is loaded -----------------------------------------------------------------------


def test_a_call_in_the_module_itself_is_made_once_by_the_app(program: Program) -> None:
    program.write(
        application=PLAIN
        + "result = tell('module')\n"
        + "note('status', result.status, bool(result.is_waiting), autocron.in_worker())"
        + FOREVER
    )
    program.start()
    worker_of(program, "module")
    program.wait_for("status", 2)
    assert [line[2:] for line in program.lines("status") if line[3] == "True"] == [["True", "True"]]
    assert len(program.jobs()) == 1


def test_a_module_that_waits_for_a_job_is_executed_up_to_there(program: Program) -> None:
    program.write(
        application=PLAIN
        + "try:\n    tell('module').get(20)\nexcept BaseException:\n    note('swallowed')\n"
        + "note('below', autocron.in_worker())\n"
        + FOREVER
    )
    program.start()
    worker_of(program, "module")
    assert program.wait_for("below") == [["below", "False"]]
    assert program.lines("swallowed") == []


@pytest.mark.once
@pytest.mark.parametrize(
    "ending",
    [
        "while True:\n    __import__('time').sleep(60)",
        "import threading\nthreading.Event().wait()\nautocron.stop()",
        "input()",
        "import asyncio\nasync def main():\n    await asyncio.Event().wait()\n\nasyncio.run(main())",
    ],
    ids=["sleep", "event", "input", "asyncio"],
)
def test_a_program_without_a_server_works_too(program: Program, ending: str) -> None:
    hold = "import builtins, signal\nif not autocron.in_worker():\n    builtins.input = signal.pause\n"
    program.write(application=PLAIN + hold + "tell('a')\n" + ending)
    program.start()
    assert worker_of(program, "a") in program.processes("worker")
    assert {job.state for job in program.jobs()} <= {"done", "running"}


def test_26_a_worker_is_no_reloaders_child_and_has_no_socket_of_a_server(program: Program) -> None:
    program.write(
        application=PLAIN + "tell(os.environ['KEPT'])\nnote(*sorted(os.environ), os.getpid())" + FOREVER
    )
    names = (
        "BOTTLE_CHILD",
        "GUNICORN_FD",
        "LISTEN_FDS",
        "RUN_MAIN",
        "WERKZEUG_RUN_MAIN",
        "WERKZEUG_SERVER_FD",
    )
    program.start("application.py", KEPT="kept", **dict.fromkeys(names, "7"))
    worker = worker_of(program, "kept")
    environments = {int(line[-1]): set(line[:-1]) for line in program.lines() if line[0] != "tell"}
    assert not environments.pop(worker) & set(names)
    (app,) = environments.values()
    assert app >= set(names)


def test_a_worker_does_not_take_the_unix_socket_of_the_app(program: Program) -> None:
    program.write(
        application=PLAIN
        + """
import asyncio

async def serve():
    async def answer(reader, writer):
        writer.write(b"app %d" % os.getpid())
        writer.close()

    async with await asyncio.start_unix_server(answer, "socket"):
        tell("a")
        await asyncio.Event().wait()

asyncio.run(serve())
"""
    )
    app = program.start()
    worker_of(program, "a")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(program.code / "socket"))
        assert client.recv(100) == b"app %d" % app.pid


def test_a_thread_that_binds_after_the_module_has_ended_serves_only_in_the_app(program: Program) -> None:
    program.write(
        application=HEAD
        + WSGIREF
        + f"""
import time

def serve():
    time.sleep(0.5)
    {SERVE}

threading.Thread(target=serve, daemon=True).start()
tell("a")
if not autocron.in_worker():
    signal.pause()
"""
    )
    program.start()
    program.wait_until_serving()
    worker_of(program, "a")

    def alone() -> bool:
        program.get("/tell/again")
        return program.lines("tell")[-1][3] == "1"  # its thread has come to the bind, and ended there

    program.wait(alone, 10, "the end of the thread in the worker")
    assert not program.listeners().keys() & program.processes("worker").keys()


def test_a_thread_that_binds_while_the_execution_is_ended_does_not_serve(run_script: RunScript) -> None:
    """The bind comes from within the end: in the very moment in which each thread is looked up."""
    script = run_script("""
import socket, threading

from autocron_web.pool import mainmodule

looked, bound, tried = threading.Event(), threading.Event(), threading.Event()
threads = mainmodule._threads

def serve():
    looked.wait(10)
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", PORT))
        bound.set()
    finally:
        tried.set()

def slow_threads():
    found = threads()
    looked.set()
    tried.wait(10)
    return found

with socket.create_server(("127.0.0.1", 0)) as probe:
    PORT = probe.getsockname()[1]
with mainmodule.Load():
    threading.Thread(target=serve).start()
    mainmodule._threads = slow_threads
print("tried", tried.is_set(), "bound", bound.is_set())
""")
    assert script.stdout == "tried True bound False\n"
    assert script.stderr == ""

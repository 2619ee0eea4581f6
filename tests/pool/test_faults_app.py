"""What apps and their servers do to themselves: fork, exec, close everything, end early. By fault number."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from conftest import pool_processes, wait_until
from pool_app import App, alive, app, pids, seconds_until, wait_for_pool  # noqa: F401

FUNCTIONS = '''
import ctypes, threading


def close_all(word):
    os.closerange(3, 1024)


def open_files(number):
    """As a program that has been daemonised goes on: what it opens gets the numbers of what was closed."""
    global files
    files = [open(f"{LEDGER}-{index}", "w+") for index in range(int(number))]


def write_files(word):
    """Say which of the files contain something else than what is written into them."""
    for file in files:
        file.write("mine")
        file.flush()
        file.seek(0)
    note("files", *{file.read() for file in files})


def c_fork(calls):
    """Fork as uWSGI does, where no hook of Python runs."""
    if ctypes.PyDLL(None).fork() == 0:
        for index in range(int(calls)):
            note("called", tell(f"child-{index}").id)
        note("child", os.getpid())
        while True:
            time.sleep(60)


def execute(call):
    os.execv(sys.executable, [sys.executable, __file__, *filter(None, call.split(","))])


def start_programs(word):
    note("program", subprocess.Popen(["sleep", "300"]).pid)
    os.system(f"sleep 300 & echo program $! >> {LEDGER}")


def fork_and_call(number):
    """Fork again and again while other threads call tasks; children call them too."""
    over = threading.Event()

    def call():
        while not over.is_set():
            note("called", tell("thread").id)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(int(number)):
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            note("called", tell("child").id)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    over.set()
    for thread in threads:
        thread.join()


def reap_all(word):
    """As a server does, and an init process."""
    def reap(*_):
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                note("reaped", os.waitstatus_to_exitcode(ended[1]))
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, reap)


class Last:
    def __del__(self, tell=tell, write=os.write, into=os.open(LEDGER, os.O_WRONLY | os.O_APPEND)):
        try:
            write(into, f"called {tell('last').id}\\n".encode())
        except BaseException as error:
            write(into, f"failed {error!r}\\n".encode())


def call_at_exit(word):
    """Call when the functions for the exit run, and when the last objects are destroyed."""
    import atexit, builtins

    atexit.register(lambda: note("called", tell(word).id))
    setattr(builtins, f"last_{word}", Last())


def start_again(name):
    try:
        autocron.start(name)
    except Exception as error:
        note("refused", type(error).__name__, error)
'''


@pytest.fixture(autouse=True)
def functions(app: App) -> None:
    app.add(FUNCTIONS)


def called(app: App) -> list[str]:
    """The ids of the calls that returned."""
    return [line[1] for line in app.lines("called")]


def test_22_eight_processes_start_at_the_same_moment(app: App) -> None:
    app.add("""
if "ready" in sys.argv:
    sys.argv.remove("ready")
    print("ready", flush=True)
    while not os.path.exists(f"{LEDGER}.go"):
        time.sleep(0.001)
""")
    scripts = [app.start("ready", f"tell:{index}") for index in range(8)]
    for script in scripts:
        script.wait_for("ready")
    app.release("go")
    for script in scripts:
        script.wait_for("called")
    app.wait_for_counts(done=8)
    wait_for_pool()
    assert sum("started True" in script.stdout for script in scripts) == 1
    assert sorted(line[1] for line in app.lines("tell")) == list("01234567")
    assert [script.stderr for script in scripts] == [""] * 8


def test_27_an_app_that_closes_all_descriptors_links_anew(app: App) -> None:
    script = app.run("tell:a", "close_all:", "tell:b")
    app.wait_for("tell b")
    before = wait_for_pool()
    app.run("tell:c")
    app.wait_for("tell c")
    assert wait_for_pool() == before
    app.close()
    assert script.stderr == ""


def test_27_what_an_app_opens_afterwards_is_its_own(app: App) -> None:
    app.run("tell:a", "close_all:", "open_files:50", "tell:b", "fork_and_call:3", "write_files:")
    app.wait_for("tell b")
    assert app.lines("files") == [["files", "mine"]]


@pytest.mark.once
@pytest.mark.parametrize("files", range(3))
def test_27_an_app_without_standard_descriptors(app: App, files: int) -> None:
    """What is opened next gets their numbers, in the app and in the monitor, and is nobody's output."""
    app.add(f"""
low = [open(f"{{LEDGER}}.low{{number}}", "a") for number in range({files})]


@autocron.delay
def say(word):
    print(word)
    print(word, file=sys.stderr)
    note("said", word)
""")
    without = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable]
    app.start("say:a", through=without)
    app.wait_for("said a")
    before = wait_for_pool()
    app.start("say:b", through=without)
    app.wait_for("said b")
    assert wait_for_pool() == before
    assert app.lines() == [["said", "a"], ["said", "b"]]
    for number in range(files):
        assert app.beside_ledger(f"low{number}").read_text() == ""


@pytest.mark.once
def test_28_a_fork_without_hooks_does_not_hide_the_death_of_its_parent(app: App) -> None:
    script = app.run("tell:a", "c_fork:5", "c_fork:0")
    talker, silent = sorted(int(line[1]) for line in app.wait_for("child", count=2))
    try:
        app.wait_for("tell child", count=5)
        wait_for_pool()
        script.kill()
        app.release("x")
        os.kill(talker, signal.SIGKILL)  # it has linked itself
        seconds_until(lambda: not pool_processes(), 10, "the end of the pool")
        assert alive(silent)
    finally:
        os.kill(silent, signal.SIGKILL)
    assert app.store.counts() == {"done": 6}


@pytest.mark.once
def test_29_an_app_that_executes_itself_anew_keeps_its_pool(app: App) -> None:
    script = app.run("tell:a")
    app.wait_for("tell a")
    before = wait_for_pool()
    other = app.run("tell:b", "execute:tell:c,tell:d")
    for word in "bcd":
        app.wait_for(f"tell {word}")
    assert wait_for_pool() == before
    script.process.terminate()
    assert script.wait() == 0
    app.run("tell:e")
    app.wait_for("tell e")
    assert wait_for_pool() == before
    assert other.process.poll() is None
    assert other.stderr == ""


@pytest.mark.once
def test_30_a_program_that_the_app_has_started_does_not_count(app: App) -> None:
    script = app.run("tell:a", "start_programs:")
    app.wait_for("tell a")
    programs = [int(line[1]) for line in app.wait_for("program", count=2)]
    try:
        script.kill()
        seconds_until(lambda: not pool_processes(), 10, "the end of the pool")
        assert all(map(alive, programs))
    finally:
        for pid in programs:
            os.kill(pid, signal.SIGKILL)


def test_31_forks_of_an_app_with_threads(app: App) -> None:
    script = app.run("fork_and_call:20")
    accepted = called(app)
    assert len(accepted) > 40
    app.wait_for_counts(done=len(accepted))
    found = {job.id: job.attempt for job in app.store.jobs(limit=10**6)}
    assert found == dict.fromkeys(accepted, 1)
    assert len(app.lines("tell")) == len(accepted)
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGKILL)  # what notices that has been through all these forks
    wait_until(lambda: pids("monitor") - {monitor}, 10, "another monitor")
    wait_for_pool()
    assert "Traceback" not in script.stderr


def test_32_a_server_that_waits_for_all_its_children(app: App) -> None:
    app.file.write_text(app.file.read_text().replace("    print(", '    reap_all("")\n    print(', 1))
    script = app.run("tell:a")
    app.wait_for("tell a")
    assert "started True" in script.stdout
    (monitor,), _ = wait_for_pool()
    os.kill(monitor, signal.SIGKILL)
    wait_until(lambda: pids("monitor") - {monitor}, 10, "another monitor")
    wait_for_pool()
    assert {code for _, code in app.lines("reaped")} <= {"0"}  # a server may take 3 and 4 for a sign
    assert script.stderr == ""


def test_34_a_second_database_is_refused(app: App) -> None:
    app.run("start_again:other.db", "tell:a")
    app.wait_for("tell a")
    ((_, kind, *words),) = app.lines("refused")
    assert kind == "ConfigError"
    assert "faults.db" in " ".join(words)
    assert "other.db" in " ".join(words)
    wait_for_pool()


def test_36_a_call_before_the_exit_is_not_lost(app: App) -> None:
    text = app.file.read_text()
    app.file.write_text(text.replace("    live()", "    sys.exit()"))
    assert app.start("tell:a").wait() == 0
    assert len(app.jobs()) == 1
    app.file.write_text(text)
    app.run()
    app.wait_for_states("done")
    assert len(app.lines("tell a")) == 1


def test_37_calls_while_the_interpreter_ends(app: App) -> None:
    text = app.file.read_text()
    app.file.write_text(text.replace("    live()", "    sys.exit()"))
    script = app.start("call_at_exit:early", "call_at_exit:late")
    assert script.wait(15) == 0
    accepted = called(app)
    assert len(accepted) >= 2  # those of `atexit`
    assert {job.id for job in app.jobs()} == set(accepted)
    assert all("shutting down" in " ".join(line) for line in app.lines("failed"))  # in Python's own words
    assert script.stderr == ""
    app.file.write_text(text)
    app.run()
    app.wait_for_counts(done=len(accepted))


def test_a_task_that_only_one_worker_knows_waits_for_workers_that_know_it(app: App) -> None:
    app.add("""
def is_second():
    try:
        os.close(os.open(LEDGER + ".first", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return True
    return False


if not autocron.in_worker() or is_second():
    @autocron.delay
    def rare(word):
        note("rare", word)
""")
    app.run(*(f"rare:{word}" for word in "abcdef"))
    _, workers = wait_for_pool()

    def settled() -> bool:
        return all(job.state == "done" or job.reason == "unknown task" for job in app.jobs())

    wait_until(settled, 15, "an end of every job, or its wait")
    app.run("tell:x", "tell:y")
    app.wait_for("tell", count=2)
    assert pids("worker") == workers  # none has died of it
    assert all(job.attempt == (job.state != "waiting") for job in app.jobs())
    app.file.touch()
    app.run()
    app.wait_for_counts(done=8)
    assert sorted(line[1] for line in app.lines("rare")) == list("abcdef")

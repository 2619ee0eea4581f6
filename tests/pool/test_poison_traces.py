"""Tasks that leave traces in their process: faults 46, 47, 48 and 50."""

from __future__ import annotations

import os

import pytest

from pool_way import Way, WithTasks, way, with_tasks  # noqa: F401

#: `state` tells all that a task can change; `change` changes it.
TASKS = """
    import decimal, locale, resource, socket

    LIMITS = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE")

    def _umask():
        mask = os.umask(0)
        os.umask(mask)
        return mask

    @autocron.delay
    def state():
        return {
            "worker": os.getpid(), "cwd": os.getcwd(), "env": dict(os.environ), "path": sys.path,
            "umask": _umask(), "recursion": sys.getrecursionlimit(),
            "locale": locale.setlocale(locale.LC_ALL),
            "decimal": repr(decimal.getcontext()), "timeout": socket.getdefaulttimeout(),
            "signals": [repr(signal.getsignal(n)).split(" at ")[0] for n in range(1, 32)],
            "blocked": sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, ()))),
            "timers": [signal.getitimer(n)[0] for n in range(3)],
            "limits": [resource.getrlimit(getattr(resource, name))[0] for name in LIMITS],
            "streams": (sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.closed, os.fstat(1).st_mode),
        }

    @autocron.delay
    def change(word):
        if word == "cwd":
            os.chdir("/")
        if word == "deleted":
            os.mkdir("deleted"); os.chdir("deleted"); os.rmdir("../deleted")
        if word == "env":
            os.environ["MINE"] = "1"; os.environ["PATH"] = ""; del os.environ["LEDGER"]
        if word == "path":
            sys.path.insert(0, "/mine"); sys.path.remove(sys.path[-1])
        if word == "umask":
            os.umask(0)
        if word == "signals":
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD):
                signal.signal(number, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGUSR2))
        if word == "timers":
            for which in range(3):
                signal.setitimer(which, 0.3, 0.3)
        if word == "recursion":
            sys.setrecursionlimit(5000)
        if word == "locale":
            is_utf8 = "utf" in locale.setlocale(locale.LC_ALL).lower()
            locale.setlocale(locale.LC_ALL, "C" if is_utf8 else "C.UTF-8")
        if word == "decimal":
            decimal.getcontext().prec = 3
            decimal.getcontext().traps[decimal.Inexact] = True
        if word == "timeout":
            socket.setdefaulttimeout(0.001)
        if word == "limit":
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        if word == "closed":
            sys.stdout.close(); sys.stderr.close()
        if word == "detached":
            sys.stdout.detach()
        if word == "replaced":
            sys.stdout = sys.stderr = open(os.devnull, "w")
        if word == "descriptors":
            os.close(1); os.close(2)
        if word == "redirected":
            os.dup2(os.open("my-output", os.O_CREAT | os.O_WRONLY), 1)
        if word == "raise":
            os.chdir("/")
            raise ValueError("and the folder is changed")

    @autocron.delay
    def speak(word):
        print("out", word)
        print("err", word, file=sys.stderr)
    """


@pytest.mark.parametrize(
    "words",
    [
        "cwd deleted env path umask recursion locale decimal timeout limit raise",
        "signals timers closed detached replaced descriptors redirected",
    ],
)
def test_46_what_a_task_changes_in_its_process_is_put_back(
    way: Way, with_tasks: WithTasks, words: str
) -> None:
    with_tasks(TASKS)
    way(
        f"""
        before = state().get(10)
        for word in {words!r}.split():
            r = change(word)
            until(lambda: r.status in ("done", "error"))
            after = state().get(10)
            for key in before:
                equal((word, key, after[key]), (word, key, before[key]))
            r = speak(word)
            r.get(10)
            equal(sorted(r.output.splitlines()), [f"err {{word}}", f"out {{word}}"])
        time.sleep(0.5)  # the timers would have gone off
        equal(state().get(10)["worker"], before["worker"])
        """,
        workers=1,
        env={"LEDGER": "x"},
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_46_what_cannot_be_put_back_costs_the_worker(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def whoami():
            return os.getpid(), os.getuid()

        @autocron.delay
        def become_nobody():
            os.setuid(65534)
        """)
    script = way(
        """
        worker, user = whoami().get(10)
        become_nobody().get(10)
        another, still = whoami().get(20)
        assert worker != another
        equal(still, user)
        """,
        workers=1,
    )
    assert "a worker is replaced: a task has changed the user of its process" in script.stderr


def test_46_a_folder_that_is_deleted_costs_no_worker(way: Way, with_tasks: WithTasks) -> None:
    """As by a deploy that removes the release before: there is nothing to go back to."""
    with_tasks("""
        GONE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "gone")
        os.makedirs(GONE, exist_ok=True)
        os.chdir(GONE)

        @autocron.delay
        def delete():
            os.rmdir(GONE)
            return os.getpid()

        @autocron.delay
        def worker():
            return os.getpid()
        """)
    script = way("equal(delete().get(10), worker().get(10))", workers=1)
    assert "Traceback" not in script.stderr


def test_46_what_a_module_adds_when_it_is_imported_stays(way: Way, with_tasks: WithTasks) -> None:
    """It is executed once, so the next task that imports it needs what it has set."""
    with_tasks("""
        Path("late.py").write_text("import os, sys; os.environ['LATE'] = '1'; sys.path.append('/late')")

        @autocron.delay
        def use():
            import late
            os.environ["PATH"] = ""
            return os.environ["LATE"], "/late" in sys.path

        @autocron.delay
        def look():
            return os.environ.get("LATE"), "/late" in sys.path, os.environ["PATH"] != ""
        """)
    way(
        """
        equal([use().get(10), use().get(10)], [("1", True)] * 2)
        equal(look().get(10), ("1", True, True))
        """,
        workers=1,
    )


def test_47_a_fork_that_returns_is_not_a_second_result(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def twins(word):
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)
                return "parent"
            if word == "raise":
                raise ValueError("in the child")
            if word == "exit":
                sys.exit(1)
            return "child"
        """)
    way("""
        for word in ("return", "raise", "exit"):
            r = twins(word)
            equal((r.get(10), r.attempt), ("parent", 1))
        """)


def test_48_a_daemon_is_left_alone_and_reported_once(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def daemonize():
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    devnull = os.open(os.devnull, os.O_RDWR)
                    for fd in (0, 1, 2):
                        os.dup2(devnull, fd)
                    os.closerange(3, 1024)
                    os.execvp("sleep", ["sleep", "300"])
                os._exit(0)
            os.wait()

        @autocron.delay
        def orphans():
            out = subprocess.run(["ps", "-o", "pid=,stat=,comm=", "--ppid", str(os.getpid())],
                                 capture_output=True, text=True).stdout
            return [line for line in out.splitlines() if "sleep" in line]
        """)
    script = way(
        """
        r = daemonize()
        r.get(10)
        (line,) = [line for line in r.output.splitlines() if "has left the process" in line]
        pid = int(line.split("the process ")[1].split()[0])
        assert line.startswith("more.daemonize has left the process"), line
        equal(add(1).get(10), 11)
        stat = Path(f"/proc/{pid}/stat").read_text()
        assert "(sleep)" in stat, stat
        os.kill(pid, signal.SIGTERM)
        until(lambda: (add(1).get(10), orphans().get(10))[1] == [])  # and no zombie of it is kept
        """,
        workers=1,
    )
    assert script.stderr.count("has left the process") == 1


def test_50_threads_that_are_left_are_reported_and_hold_no_worker(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        def leave():
            threading.Thread(target=time.sleep, args=(300,), name="my-thread").start()
            return os.getpid()

        @autocron.delay
        def stumble():
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        """)
    script = way(
        """
        r = leave()
        worker = r.get(10)
        expected = "more.leave has left 1 threads running (my-thread): they end with the worker"
        assert expected in r.output, r.output
        equal(leave().get(10), worker)
        r = stumble()
        r.get(10)
        assert "ZeroDivisionError" in r.output, r.output
        began = time.monotonic()
        """,
        workers=1,
    )
    assert script.stderr.count("has left 1 threads running") == 1


def test_50_threads_of_the_event_loop_are_not_left_by_a_task(way: Way, with_tasks: WithTasks) -> None:
    with_tasks("""
        @autocron.delay
        async def alone():
            return await asyncio.to_thread(os.getpid)

        @autocron.delay(concurrency=2)
        async def beside():
            return await asyncio.to_thread(os.getpid)
        """)
    script = way("assert alone().get(10) == beside().get(10)", workers=1)
    assert "threads running" not in script.stderr

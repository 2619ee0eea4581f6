"""Is this process serving? One table of reasons why not, used by `start()` and by every adapter."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from types import FrameType
from typing import NamedTuple


class Process(NamedTuple):
    """What can be known of a process from inside.

    argv: its command line. environ: its environment. modules: those that are loaded.
    callers: the functions that led to the question, as `module.function`.
    """

    argv: Sequence[str]
    environ: Mapping[str, str]
    modules: Container[str]
    callers: Collection[str] = frozenset()

    @property
    def program(self) -> str:
        """The name of the program, for `python -m flask` and `/usr/bin/flask` alike."""
        path = self.argv[0] if self.argv else ""
        name = os.path.basename(path)
        return os.path.basename(os.path.dirname(path)) if name == "__main__.py" else name

    @property
    def command(self) -> str:
        """The first word that is no option and no value of `-A`, `--app` or `-e`."""
        words = iter(self.argv[1:])
        for word in words:
            if word in ("-A", "--app", "-e", "--env-file"):
                next(words, None)
            elif not word.startswith("-"):
                return word
        return ""


Rule = tuple[str, Callable[[Process], bool]]

TESTS = "a test runner"

_TEST_RUNNERS = {"pytest", "py.test", "nose2"}
_SESSIONS = {"", "ipython", "ipython3", "IPython", "ipykernel_launcher.py", "ptpython", "bpython", "asyncio"}

#: The commands of `manage.py` that serve the project, and those that try it with a database of their own.
#: runserver_plus is that of django-extensions.
_DJANGO_SERVERS = ("runserver", "runserver_plus")
_DJANGO_TESTS = ("test", "testserver")
_DJANGO_UTILITY = "django.core.management.execute"

#: Programs that import a module in order to serve it, also where that calls `django.setup()` itself.
_SERVER_PROGRAMS = frozenset({
    "daphne", "granian", "gunicorn", "hypercorn", "mod_wsgi", "uvicorn", "uwsgi", "waitress-serve",
})  # fmt: skip

_RULES: tuple[Rule, ...] = (
    (TESTS, lambda p: p.program in _TEST_RUNNERS or p.program.endswith(" -m unittest")),
    (TESTS, lambda p: p.program == "-c" and "execnet.gateway_base" in p.modules),  # pytest-xdist
    ("an interactive session", lambda p: p.program in _SESSIONS),
    ("another process pool's child", lambda p: "--multiprocessing-fork" in p.argv),
    ("a flask command that does not serve", lambda p: p.program == "flask" and p.command != "run"),
    (
        "the reloader's parent",
        lambda p: p.program == "flask" and _flask_reloads(p) and p.environ.get("WERKZEUG_RUN_MAIN") != "true",
    ),
    (TESTS, lambda p: _django_command(p) in _DJANGO_TESTS),
    (
        "a Django command that does not serve",
        lambda p: _django_command(p) not in (None, *_DJANGO_SERVERS),
    ),
    (
        "the reloader's parent",
        lambda p: _django_command(p) in _DJANGO_SERVERS and "--noreload" not in p.argv and not _is_child(p),
    ),
    (
        "a script that sets up Django and serves nothing",
        lambda p: "django.setup" in p.callers and not _serves_django(p),
    ),
    ("a Pyramid command that does not serve", lambda p: any(map(_is_pyramid_command, p.callers))),
)


def is_django_command(process: Process) -> bool:
    """Whether `manage.py` executes one of its commands, which may be one that serves."""
    return _django_command(process) is not None


def is_django_test(process: Process) -> bool:
    """Whether `manage.py` runs the tests of the project, or serves it with a database of theirs."""
    return _django_command(process) in _DJANGO_TESTS


def _django_command(process: Process) -> str | None:
    """The command that Django's command line is executing, whatever `manage.py` is called; else None."""
    return process.command if _DJANGO_UTILITY in process.callers else None


def _is_child(process: Process) -> bool:
    """Whether Django's reloader, or werkzeug's of runserver_plus, has started this process."""
    return "true" in (process.environ.get("RUN_MAIN"), process.environ.get("WERKZEUG_RUN_MAIN"))


def _serves_django(process: Process) -> bool:
    entries = ("django.core.wsgi.get_wsgi_application", "django.core.asgi.get_asgi_application")
    callers = process.callers
    return process.program in _SERVER_PROGRAMS or any(name in callers for name in (_DJANGO_UTILITY, *entries))


def _is_pyramid_command(caller: str) -> bool:
    """Those that come with Pyramid, but for pserve, and scripts of the app that begin as most of those do."""
    if caller == "pyramid.paster.bootstrap":
        return True
    return caller.startswith("pyramid.scripts.") and not caller.startswith("pyramid.scripts.pserve.")


def _flask_reloads(process: Process) -> bool:
    """Whether `flask run` has a reloader: with `--debug` or FLASK_DEBUG, unless switched."""
    if "--no-reload" in process.argv:
        return False
    if "--reload" in process.argv or "--debug" in process.argv:
        return True
    return process.environ.get("FLASK_DEBUG", "").lower() not in ("", "0", "false", "no")


def why_not(process: Process) -> str | None:
    """The reason why no pool is started in such a process, or None if it serves."""
    for reason, applies in _RULES:
        if applies(process):
            return reason
    return None


class Forks(NamedTuple):
    """The processes that are to serve, of one that loads the app only to fork them.

    user: as whom they run. green: whether they put gevent's greenlets in the place of threads.
    """

    user: int
    green: bool


def forks() -> Forks | None:
    """What will serve in the place of this process; None if that is this process itself.

    The master of `gunicorn --preload` is such a one. What it opened as root, `-u www-data` could not use,
    and from Python 3.12 on a thread in it makes every fork warn. Its configuration is found on the
    stack, below the app that is being loaded.
    """
    for frame in _stack():
        if frame.f_code.co_name == "setup" and frame.f_globals.get("__name__") == "gunicorn.arbiter":
            arbiter = frame.f_locals.get("self")
            user = getattr(getattr(arbiter, "cfg", None), "uid", os.geteuid())
            kinds = getattr(getattr(arbiter, "worker_class", None), "__mro__", ())
            return Forks(user, any(kind.__module__ == "gunicorn.workers.ggevent" for kind in kinds))
    return None


def forks_in_c() -> bool:
    """Whether this process will fork others past Python, as uWSGI's does that loads the app for its workers.

    A thread that has the interpreter's lock at that moment leaves it locked in the fork for ever.
    """
    uwsgi = sys.modules.get("uwsgi")  # which is there only inside the server
    return uwsgi is not None and hasattr(uwsgi, "worker_id") and uwsgi.worker_id() == 0


def this_process() -> Process:
    """The process that asks."""
    argv, callers = sys.argv, set()
    for frame in _stack():
        name = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        callers.add(name)
        if name == _DJANGO_UTILITY:
            argv = frame.f_locals["self"].argv  # a program may give it another command line than its own
    return Process(argv, os.environ, sys.modules, callers)


def _stack() -> Iterator[FrameType]:
    """What is being executed, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back

"""Is this process serving? One table of reasons why not, used by `start()` and by every adapter."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from types import FrameType
from typing import NamedTuple


class Process(NamedTuple):
    """What can be known of a process from inside: its command line, environment and loaded modules."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    modules: Container[str]

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

_TEST_RUNNERS = {"pytest", "py.test", "nose2"}
_SESSIONS = {"", "ipython", "ipython3", "IPython", "ipykernel_launcher.py", "ptpython", "bpython", "asyncio"}

_RULES: tuple[Rule, ...] = (
    ("a test runner", lambda p: p.program in _TEST_RUNNERS or p.program.endswith(" -m unittest")),
    ("a test runner", lambda p: p.program == "-c" and "execnet.gateway_base" in p.modules),  # pytest-xdist
    ("an interactive session", lambda p: p.program in _SESSIONS),
    ("another process pool's child", lambda p: "--multiprocessing-fork" in p.argv),
    ("a flask command that does not serve", lambda p: p.program == "flask" and p.command != "run"),
    (
        "the reloader's parent",
        lambda p: p.program == "flask" and _flask_reloads(p) and p.environ.get("WERKZEUG_RUN_MAIN") != "true",
    ),
)


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


def user_of_forks() -> int | None:
    """The user of the processes that are to serve, where this one loads the app only to fork them; else None.

    So does the master of `gunicorn --preload`. What it opened as root, `-u www-data` could not use,
    and from Python 3.12 on a thread in it makes every fork warn. Its configuration is found on the
    stack, below the app that is being loaded.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "setup" and frame.f_globals.get("__name__") == "gunicorn.arbiter":
            uid: int = getattr(getattr(frame.f_locals.get("self"), "cfg", None), "uid", os.geteuid())
            return uid
        frame = frame.f_back
    return None


def this_process() -> Process:
    """The process that asks."""
    return Process(sys.argv, os.environ, sys.modules)

"""The servers of the matrix: how each one is started, and how it is given new code."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from typing import NamedTuple

from server_site import Site, python_of

from conftest import cannot_run


class Reload(NamedTuple):
    """How a server is given new code: in words, and done to a running one after its files have changed."""

    name: str
    words: str
    do: Callable[[Site], object]


class Server(NamedTuple):
    """One line of the matrix.

    command: what is typed, with `{port}`, `{pidfile}` and `{fifo}` to be filled in.
    recycles: whether its processes are replaced all the time.
    debug: whether the sample app, which is the program, is told to run in debug mode.
    user: whom it becomes; it is started by root.
    always: whether also `make test` tries it.
    """

    name: str
    command: str
    reloads: tuple[Reload, ...]
    recycles: bool = False
    debug: bool = False
    user: str | None = None
    always: bool = False

    def argv(self, **values: object) -> list[str]:
        """The command line, with the program that is installed beside this Python."""
        program, *words = [word.format(**values) for word in self.command.split()]
        words = [os.path.join(sysconfig.get_path("scripts"), program), *words]
        if self.user is not None:
            words[:0] = [python_of(self.user) or cannot_run(f"{self.user} cannot run any Python here")]
        return words


def _usr2(site: Site) -> None:
    """Gunicorn's upgrade: a second master starts, and then the first one is told to end."""
    old = site.pid
    os.kill(old, signal.SIGUSR2)
    site.pid = site.wait_for_pid_file(other_than=old)
    site.wait_for_release("second")
    os.kill(old, signal.SIGTERM)


def _restart(site: Site) -> None:
    site.signal(signal.SIGTERM)
    site.wait_for_exit()
    site.start()


HUP = Reload("HUP", "`HUP`", lambda site: os.kill(site.pid, signal.SIGHUP))
USR2 = Reload("USR2", "`USR2`, then `TERM` to the old master", _usr2)
CHAIN = Reload("chain", "chain reload (`c` into the master's fifo)", lambda site: site.fifo.write_text("c"))
FILE = Reload("file", "a changed file", lambda site: None)
RESTART = Reload("restart", "stopped and started again", _restart)

#: Without gunicorn's control socket, whose thread makes forks of the master warn from Python 3.12 on:
#: that would hide warnings about a thread of ours.
GUNICORN = "gunicorn shop:app --bind 127.0.0.1:{port} --pid {pidfile} --no-control-socket -w "
UVICORN = "uvicorn shop_asgi:application --port {port} "
#: With `--binary-path`, because pyuwsgi executes itself anew with the base interpreter, which does not see
#: the packages of a virtual environment.
UWSGI = (
    "uwsgi --http-socket 127.0.0.1:{port} --module shop:app --die-on-term"
    f" --binary-path {sys.executable} --master --processes "
)

SERVERS = (
    Server("gunicorn, sync", GUNICORN + "3", (HUP, USR2), always=True),
    Server("gunicorn, gthread", GUNICORN + "3 -k gthread --threads 4", (HUP,)),
    Server("gunicorn, gevent", GUNICORN + "3 -k gevent", (HUP,)),
    Server("gunicorn `--preload`", GUNICORN + "3 --preload", (USR2,)),
    Server("gunicorn `--max-requests 5`", GUNICORN + "1 --max-requests 5", (HUP,), recycles=True),
    Server("gunicorn `-u nobody`", GUNICORN + "3 -u nobody", (HUP,), user="nobody"),
    Server("gunicorn `--preload -u nobody`", GUNICORN + "3 --preload -u nobody", (USR2,), user="nobody"),
    Server("uvicorn `--workers 3`", UVICORN + "--workers 3", (HUP,), always=True),
    Server("uvicorn `--reload`", UVICORN + "--reload", (FILE,)),
    Server("uWSGI", UWSGI + "3", (HUP,), always=True),
    Server("uWSGI `--lazy-apps`", UWSGI + "3 --lazy-apps --master-fifo {fifo}", (CHAIN,)),
    Server("`flask run --debug`", "flask --app shop run --debug --port {port}", (FILE,), always=True),
    Server("`python shop.py`", "python shop.py", (RESTART,)),
    Server("`python shop.py`, debug", "python shop.py", (FILE,), debug=True),
)

#: What `make matrix` tries beside the servers of the table.
MORE = (
    *(
        # with --preload, HUP goes on with the old code
        Server(f"gunicorn -k {kind} {option}".strip(), f"{GUNICORN}3 -k {kind} {option}", reloads)
        for kind in ("sync", "gthread", "gevent")
        for option, reloads in (("", (HUP, USR2)), ("--preload", (USR2,)), ("--max-requests 5", (HUP, USR2)))
    ),
    Server("gunicorn, one process", GUNICORN + "1", (HUP, USR2, RESTART)),
    Server("uvicorn", UVICORN, (RESTART,)),
    Server("uWSGI --enable-threads", UWSGI + "3 --enable-threads", (HUP,)),  # the default since 2.0.27
    Server("uWSGI --threads 4", UWSGI + "3 --threads 4", (HUP, RESTART)),
    Server("uWSGI --lazy-apps", UWSGI + "3 --lazy-apps", (HUP,)),
    Server(
        "uWSGI --max-requests 5", UWSGI + "1 --max-requests 5 --min-worker-lifetime 0", (HUP,), recycles=True
    ),
    Server("flask run", "flask --app shop run --port {port}", (RESTART,)),
)

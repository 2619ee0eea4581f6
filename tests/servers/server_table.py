"""The servers of the matrix: how each one is started, reloaded and ended."""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from typing import NamedTuple

from server_site import Site, python_of

from conftest import cannot_run

Reload = Callable[[Site], None]


class Server(NamedTuple):
    """One line of the matrix.

    command: what is typed, with `{port}` and `{fifo}` filled in, and the program found beside this Python.
    processes: how many processes serve the app.
    reload: what is done after the code has changed, and in words; None where no reload is needed or known.
    recycles: whether its processes are replaced all the time.
    user: whom it becomes, if it is started by root.
    """

    name: str
    command: str
    processes: int
    reload: Reload
    reload_words: str
    recycles: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    user: str | None = None


def hup(site: Site) -> None:
    os.kill(site.pid, signal.SIGHUP)


def usr2(site: Site) -> None:
    """Gunicorn's upgrade: a second master starts, and then the first one is told to end."""
    old = site.pid
    os.kill(old, signal.SIGUSR2)
    site.pid = site.wait_for_pid_file(other_than=old)
    site.wait_for_release("second")
    os.kill(old, signal.SIGTERM)


def touch(site: Site) -> None:
    """The reloader watches the files."""


def chain(site: Site) -> None:
    """uWSGI reloads one process after the other, and keeps the master."""
    site.fifo.write_text("c")


def restart(site: Site) -> None:
    os.kill(site.pid, signal.SIGTERM)
    site.wait_for_exit()
    site.start()


#: Without gunicorn's control socket: its thread makes forks of the master warn from Python 3.12 on, which would
#: hide warnings about threads of ours.
GUNICORN = "gunicorn shop:app --bind 127.0.0.1:{port} --pid {pidfile} --no-control-socket "
UVICORN = "uvicorn shop_asgi:application --port {port} "
#: `--binary-path`: pyuwsgi reloads itself with the base interpreter, which does not know the environment's packages.
UWSGI = f"uwsgi --http-socket 127.0.0.1:{{port}} --module shop:app --die-on-term --binary-path {sys.executable} "

SERVERS = (
    Server("gunicorn, sync", GUNICORN + "-w 3", 3, hup, "HUP"),
    Server("gunicorn, gthread", GUNICORN + "-w 3 -k gthread --threads 4", 3, hup, "HUP"),
    Server("gunicorn, gevent", GUNICORN + "-w 3 -k gevent", 3, hup, "HUP"),
    Server("gunicorn --preload", GUNICORN + "-w 3 --preload", 3, usr2, "USR2, then TERM to the old master"),
    Server("gunicorn --max-requests 5", GUNICORN + "-w 1 --max-requests 5", 1, hup, "HUP", recycles=True),
    Server("gunicorn, upgraded by USR2", GUNICORN + "-w 3", 3, usr2, "USR2, then TERM to the old master"),
    Server("gunicorn -u nobody", GUNICORN + "-w 3 -u nobody", 3, hup, "HUP", user="nobody"),
    Server("gunicorn --preload -u nobody", GUNICORN + "-w 3 --preload -u nobody", 3, usr2, "USR2, then TERM to the old master", user="nobody"),
    Server("uvicorn --workers 3", UVICORN + "--workers 3", 3, hup, "HUP"),
    Server("uvicorn --reload", UVICORN + "--reload", 1, touch, "a changed file"),
    Server("uWSGI", UWSGI + "--master -p 3", 3, hup, "HUP"),
    Server("uWSGI --enable-threads", UWSGI + "--master -p 3 --enable-threads", 3, hup, "HUP"),
    Server("uWSGI --lazy-apps", UWSGI + "--master -p 3 --lazy-apps --master-fifo {fifo}", 3, chain, "chain reload"),
    Server("flask run --debug", "flask --app shop run --debug --port {port}", 1, touch, "a changed file"),
    Server("python shop.py", "python shop.py", 1, restart, "stopped and started again"),
    Server("python shop.py, debug", "python shop.py", 1, touch, "a changed file", environment=(("DEBUG", "1"),)),
)  # fmt: skip


def argv(server: Server, **values: object) -> list[str]:
    """The command line, with the program of the environment that runs the tests."""
    program, *words = [word.format(**values) for word in server.command.split()]
    if server.user is not None:
        python = python_of(server.user) or cannot_run(f"{server.user} cannot run any Python here")
        return [python, "-m", program, *words]
    return [os.path.join(sysconfig.get_path("scripts"), program), *words]

"""Each framework under the servers that its people use: each job runs once in one pool, nothing is left.

`MATRIX=table` or `MATRIX=full` in the environment (`make matrix`) tries all of them, not only some.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from server_site import Site

from conftest import CHECKOUT

pytestmark = [
    pytest.mark.once,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not Path("/proc").exists(), reason="processes are looked for in /proc"),
]

JOBS = 30
LINGER, DRAIN, SLACK = 5.0, 10.0, 2.0

GUNICORN = "gunicorn --no-control-socket -b 127.0.0.1:{port} -w 2"
UWSGI = (
    "uwsgi --http-socket 127.0.0.1:{port} --die-on-term --master --processes 2"
    f" --binary-path {sys.executable} --module"
)
GRANIAN = "granian --workers 2 --port {port} --interface"
HYPERCORN = "hypercorn -w 2 -b 127.0.0.1:{port}"
WAITRESS = "waitress-serve --listen 127.0.0.1:{port}"
ASGI, WSGI = "small_asgi:app", "small_wsgi:app"

#: Pyramid's programs import the app as what is installed; ours lies in the folder where they start.
INSTALLED = {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), "."])}


class Row(NamedTuple):
    """One line of the table: whose app, under which server, and what is typed.

    group: whether SIGTERM goes to all of its processes, as from systemd: the first one does not hand it on.
    always: whether also `make test` tries it.
    """

    framework: str
    server: str
    command: str
    environment: Mapping[str, str] = {}
    group: bool = False
    always: bool = False

    @property
    def name(self) -> str:
        return f"{self.framework}, {self.server}"

    def argv(self, **values: object) -> list[str]:
        program, *words = [word.format(**values) for word in self.command.split()]
        return [os.path.join(sysconfig.get_path("scripts"), program), *words]


ROWS = (
    Row("Django", "`runserver`", "python small_manage.py runserver {port}"),
    Row("Django", "`runserver` of daphne", "python small_manage.py runserver {port}", {"SHOP_DAPHNE": "1"}),
    Row("Django", "gunicorn", f"{GUNICORN} small_manage:wsgi()"),
    Row("Django", "uWSGI", f"{UWSGI} small_manage_wsgi:app"),
    Row("Django", "uvicorn", "uvicorn --workers 2 --port {port} --factory small_manage:asgi"),
    Row("Django", "daphne", "daphne -p {port} small_manage_asgi:app"),
    Row("Django", "hypercorn", f"{HYPERCORN} small_manage_asgi:app"),
    Row("Django", "granian", f"{GRANIAN} asgi small_manage_asgi:app"),
    Row("Flask", "waitress", f"{WAITRESS} small_flask:app"),
    Row("Flask", "granian", f"{GRANIAN} wsgi small_flask:app"),
    Row("Flask", "hypercorn", f"{HYPERCORN} wsgi:small_flask:app"),
    Row("Pyramid", "`pserve`", "pserve small.ini http_port={port}", INSTALLED),
    Row("Pyramid", "`pserve --reload`", "pserve --reload small.ini http_port={port}", INSTALLED),
    Row("Pyramid", "gunicorn `--paste`", f"{GUNICORN} --paste small.ini"),
    Row("Pyramid", "waitress", f"{WAITRESS} --call small_pyramid:main"),
    Row("Starlette", "hypercorn", f"{HYPERCORN} {ASGI}"),
    Row("Starlette", "granian", f"{GRANIAN} asgi {ASGI}"),
    Row("Starlette", "daphne", f"daphne -p {{port}} {ASGI}"),
    Row("Starlette", "uvicorn", f"uvicorn --port {{port}} {ASGI}"),
    Row("Starlette", "uvicorn `--reload`", f"uvicorn --reload --port {{port}} {ASGI}"),
    Row(
        "Starlette", "uvicorn `--lifespan off`", f"uvicorn --workers 2 --lifespan off --port {{port}} {ASGI}"
    ),
    Row(
        "Starlette", "gunicorn, uvicorn's worker", f"{GUNICORN} -k uvicorn_worker.UvicornWorker {ASGI}",
    ),
    Row("Starlette", "gunicorn `-k asgi`", f"{GUNICORN} -k asgi {ASGI}"),
    Row("FastAPI", "`fastapi run`", "fastapi run --workers 2 --port {port} small_fastapi.py"),
    Row("FastAPI", "`fastapi dev`", "fastapi dev --port {port} small_fastapi.py"),
    Row("Quart", "`quart run`", "quart --app small_quart run --port {port}"),
    Row("Quart", "hypercorn", f"{HYPERCORN} small_quart:app"),
    Row("Litestar", "`litestar run`", "litestar --app small_litestar:app run --port {port}"),
    Row("WSGI", "waitress", f"{WAITRESS} {WSGI}", always=True),
    Row("WSGI", "gunicorn `--preload`", f"{GUNICORN} --preload {WSGI}"),
    Row("WSGI", "granian", f"{GRANIAN} wsgi {WSGI}"),
    Row("WSGI", "uWSGI", f"{UWSGI} {WSGI}"),
    Row("Bottle", "its own", "python small_bottle.py"),
    Row("Bottle", "its own, `reloader=True`", "python small_bottle.py reload"),
    Row("Bottle", "gunicorn", f"{GUNICORN} small_bottle:app"),
    Row("Tornado", "its own", "python small_tornado.py"),
    Row("Tornado", "its own, two forks", "python small_tornado.py fork", group=True),
)  # fmt: skip

CHOSEN = [row for row in ROWS if row.always or os.environ.get("MATRIX")]


@pytest.fixture
def make_site(nothing_left: list[Path]) -> Iterator[Callable[[Row], Site]]:
    sites: list[Site] = []

    def make(row: Row) -> Site:
        sites.append(Site(row.argv, row.environment))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.mark.parametrize(
    "row", CHOSEN, ids=lambda row: "".join(filter(str.isalnum, row.framework + row.server))
)
def test_each_job_runs_once_and_nothing_is_left(
    row: Row, make_site: Callable[[Row], Site], record_property: Callable[[str, object], None]
) -> None:
    record_property("server", row.name)
    sites = {number: make_site(row) for number in (signal.SIGTERM, signal.SIGKILL)}
    for site in sites.values():
        site.launch()
    for site in sites.values():
        site.wait_until_serving()
    words = [f"w{number}" for number in range(JOBS)]
    pools = []
    for site in sites.values():
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda word, site=site: site.post(f"/tell/{word}"), words))  # type: ignore[misc]
        pools.append(site.wait_for_pool())
        site.wait_for("tell", JOBS)
        site.wait(lambda site=site: _all_done(site), 20, "the end of all jobs")  # type: ignore[misc]
        assert sorted(line[1] for line in site.lines("tell")) == sorted(words)
        assert site.pool() == pools[-1]
    record_property("jobs", f"{JOBS * len(sites)} of {JOBS * len(sites)}")
    for number, site in sites.items():
        if row.group:
            os.killpg(site.pid, number)
        else:
            site.signal(number)
    for site in sites.values():
        site.wait_for_exit(LINGER + DRAIN)
        site.wait(lambda site=site: not site.processes(), LINGER + DRAIN + SLACK, "the end of the pool")  # type: ignore[misc]
    record_property("gone", "yes")


def test_the_page_has_these_rows() -> None:
    page = (CHECKOUT / "docs" / "servers.md").read_text()
    shown = [
        line for line in page.splitlines() if line.startswith("| ") and line.endswith(" 60 of 60 | yes |")
    ]
    assert shown == [f"| {row.framework} | {row.server} | 60 of 60 | yes |" for row in ROWS]


def _all_done(site: Site) -> bool:
    return [job.state for job in site.jobs()] == ["done"] * JOBS

"""The way that autocron 1.x shows for each framework: one `start()` where its documentation has it.

No adapter: a module with two tasks, and `autocron.start()` in the app. Only the import is another one, and
Starlette has a lifespan, since it has no `on_startup` any more. Django's is in test_django.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from adapter_site import Server, end_pools

from autocron_web.store.sqlite import SqliteStore
from conftest import wait_until
from pool_app import wait_for_pool

UTILS = """
import time
import autocron_web as autocron

@autocron.delay
def do_this_later():
    time.sleep(0.1)
    print("\\ndo this later")

@autocron.cron("* * * * *")
def cronjob():
    print("action from the cron job")
"""

FLASK = """
import time
import autocron_web as autocron
from flask import Flask

app = Flask(__name__)
autocron.start("the_app.db")

@autocron.cron("* * * * *")
def cronjob():
    print("action from the cron job")

@autocron.delay
def do_this_later():
    time.sleep(0.1)
    print("\\ndo this later")

@app.route("/")
def hello_world():
    task_result = do_this_later()
    return f"Hello, TaskResult uuid: {task_result.uuid}"
"""

BOTTLE = """
import autocron_web as autocron
from bottle import route, run
from utils import do_this_later

@route('/')
def hello():
    result = do_this_later()
    return f"Hello, TaskResult uuid: {result.uuid}"

autocron.start("the_app.db")
run(host='localhost', port=8080)
"""

PYRAMID = """
from wsgiref.simple_server import make_server
from pyramid.config import Configurator
from pyramid.response import Response

import autocron_web as autocron
from utils import do_this_later

def hello_world(request):
    task_result = do_this_later()
    return Response(f"Hello, TaskResult uuid: {task_result.uuid}")

autocron.start("the_app.db")

if __name__ == "__main__":
    with Configurator() as config:
        config.add_route("hello", "/")
        config.add_view(hello_world, route_name="hello")
        app = config.make_wsgi_app()
    server = make_server("127.0.0.1", 8080, app)
    server.serve_forever()
"""

TORNADO = """
import asyncio
import tornado
import autocron_web as autocron
from utils import do_this_later

class MainHandler(tornado.web.RequestHandler):
    def get(self):
        task_result = do_this_later()
        self.write(f"Hello, TaskResult uuid: {task_result.uuid}")

def make_app():
    return tornado.web.Application([
        (r"/", MainHandler),
    ])

async def main():
    autocron.start("the_app.db")
    app = make_app()
    app.listen(8080)
    shutdown_event = asyncio.Event()
    await shutdown_event.wait()

if __name__ == "__main__":
    asyncio.run(main())
"""

STARLETTE = """
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import autocron_web as autocron
from utils import do_this_later

def homepage(request):
    task_result = do_this_later()
    return PlainTextResponse(f"Hello, TaskResult uuid: {task_result.uuid}")

@asynccontextmanager
async def lifespan(app):
    print("Ready to go")
    autocron.start("the_app.db")
    yield

routes = [
    Route("/", homepage),
]

app = Starlette(debug=True, routes=routes, lifespan=lifespan)
"""

FASTAPI = """
import autocron_web as autocron

from contextlib import asynccontextmanager
from fastapi import FastAPI
from utils import do_this_later

@asynccontextmanager
async def lifespan(app):
    autocron.start("the_app.db", workers=4)
    try:
        yield
    finally:
        autocron.stop()  # not really needed

app = FastAPI(lifespan=lifespan)

@app.get("/")
def read_root():
    return f"Hello, TaskResult uuid: {do_this_later().uuid}"
"""

UVICORN = "-m uvicorn application:app --port 8080"


class Example(NamedTuple):
    source: str
    command: str
    workers: int = 2


EXAMPLES = {
    "flask": Example(FLASK, "-m flask --app application run --port 8080"),
    "bottle": Example(BOTTLE, "application.py"),
    "pyramid": Example(PYRAMID, "application.py"),
    "tornado": Example(TORNADO, "application.py"),
    "starlette": Example(STARLETTE, UVICORN),
    "fastapi": Example(FASTAPI, UVICORN, workers=4),
}


@pytest.fixture
def server(tmp_path: Path, home: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.stop()
    end_pools()


@pytest.mark.once
@pytest.mark.parametrize("framework", EXAMPLES)
def test_the_example_of_1x_runs(framework: str, server: Server, tmp_path: Path, home: Path) -> None:
    source, command, workers = EXAMPLES[framework]
    (tmp_path / "utils.py").write_text(UTILS)
    (tmp_path / "application.py").write_text(source.replace("8080", str(server.port)))
    server.start(sys.executable, *command.replace("8080", str(server.port)).split())
    wait_for_pool(workers=workers)
    hello, _, uuid = server.ask("/").decode().strip('"').rpartition(" ")
    assert hello == "Hello, TaskResult uuid:"
    store = SqliteStore(home / "the_app.db")
    try:
        wait_until(lambda: (job := store.get(uuid)) and job.state == "done", 20, "the end of the job")
        module = "application" if framework == "flask" else "utils"
        job = store.get(uuid)
        assert job is not None
        assert (job.task, job.attempt) == (f"{module}.do_this_later", 1)
        wait_until(lambda: [cron.name for cron in store.crons()] == [f"{module}.cronjob"], 10, "the cron")
        wait_until(lambda: "do this later" in server.output, 10, "what the task has printed")
    finally:
        store.close()

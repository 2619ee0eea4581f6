"""One script for each way to serve: a task above a serve call, mostly without a guard.

Each is written after `HEAD`, which has the tasks and the apps. What is a startup hook of the server's
calls `note("startup", …)`: that must never happen in a worker.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = '''
import os, signal, sys, threading

import autocron_web as autocron

autocron.start("main.db", workers=1)

PORT = int(sys.argv[1])


def note(*words):
    """One line in one write, so that lines of several processes never mix."""
    fd = os.open(os.environ["LEDGER"], os.O_WRONLY | os.O_APPEND)
    os.write(fd, (" ".join(map(str, words)) + "\\n").encode())
    os.close(fd)


def changed_signals():
    """The signals that this process handles in another way than a worker does."""
    usual = (signal.SIG_DFL, signal.default_int_handler)
    changed = []
    for number in sorted(signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}):
        handler = signal.getsignal(number)
        if handler not in usual and getattr(handler, "__module__", "") != "autocron_web.pool.worker":
            changed.append(signal.Signals(number).name)
    return ",".join(changed) or "none"


@autocron.delay
def tell(word):
    note("tell", word, os.getpid(), len(os.listdir("/proc/self/task")), changed_signals())


def call(path):
    if path.startswith("/tell/"):
        return tell(path[6:]).id
    return "here"


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [call(environ["PATH_INFO"]).encode()]


async def asgi(scope, receive, send):
    while scope["type"] == "lifespan":
        kind = (await receive())["type"]
        note(kind.rpartition(".")[2], os.getpid())
        await send({"type": kind + ".complete"})
        if kind == "lifespan.shutdown":
            return
    answer = call(scope["path"]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": answer})


def started(*arguments, **keywords):
    note("startup", os.getpid())


async def astarted(*arguments, **keywords):
    started()
'''


class Sample(NamedTuple):
    """A way to serve.

    needs: the module that it imports. sockets: how many wait for connections. first: what stands above all.
    banner: what the server says once in the terminal when it starts.
    """

    name: str
    needs: str
    script: str
    sockets: int = 1
    first: str = ""
    banner: str = ""


FLASK = """
from flask import Flask
app = Flask(__name__)
app.add_url_rule("/", view_func=lambda: "here", endpoint="here")
app.add_url_rule("/tell/<word>", view_func=lambda word: call("/tell/" + word))
"""

AIOHTTP = """
import asyncio
from aiohttp import web

async def answer(request):
    return web.Response(text=call(request.path))

app = web.Application()
app.router.add_get("/{path:.*}", answer)
app.on_startup.append(astarted)
"""

TORNADO = """
import asyncio, tornado.ioloop, tornado.web

class Answer(tornado.web.RequestHandler):
    def get(self):
        self.write(call(self.request.path))

app = tornado.web.Application([("/.*", Answer)])
"""

DJANGO = """
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpResponse
from django.urls import re_path

settings.configure(DEBUG=True, ROOT_URLCONF=__name__, SECRET_KEY="x", LOGGING_CONFIG=None)
urlpatterns = [re_path("(?P<path>.*)", lambda request, path: HttpResponse(call("/" + path)))]
"""

SANIC = """
from sanic import Sanic, text
app = Sanic("shop", configure_logging=False)
app.main_process_start(astarted)
app.before_server_start(astarted)

@app.get("/<path:path>")
async def answer(request, path):
    return text(call("/" + path))
"""

WSGIREF = "from wsgiref.simple_server import make_server\n"
SERVE = "make_server('127.0.0.1', PORT, wsgi).serve_forever()"

SAMPLES = (
    Sample("flask", "flask", FLASK + "app.run(port=PORT)", banner="Serving Flask app"),
    Sample("flask, debug", "flask", FLASK + "app.run(port=PORT, debug=True)"),
    Sample("flask, guarded", "flask", FLASK + "if __name__ == '__main__':\n    app.run(port=PORT)"),
    Sample("django", "django", DJANGO + """
execute_from_command_line(["application.py", "runserver", "--noreload", f"127.0.0.1:{PORT}"])
"""),
    Sample("django, reload", "django", DJANGO + """
execute_from_command_line(["application.py", "runserver", f"127.0.0.1:{PORT}"])
"""),
    Sample("wsgiref", "wsgiref", WSGIREF + SERVE),
    Sample("waitress", "waitress", "import waitress\nwaitress.serve(wsgi, host='127.0.0.1', port=PORT)"),
    Sample("tornado, loop", "tornado", TORNADO + """
app.listen(PORT, '127.0.0.1')
tornado.ioloop.IOLoop.current().start()
"""),
    Sample("tornado, asyncio.run", "tornado", TORNADO + """
async def main():
    app.listen(PORT, "127.0.0.1")
    await asyncio.Event().wait()

asyncio.run(main())
"""),
    Sample("gevent", "gevent", """
from gevent.pywsgi import WSGIServer
WSGIServer(('127.0.0.1', PORT), wsgi, log=None).serve_forever()
"""),
    Sample("eventlet", "eventlet", """
import eventlet, eventlet.wsgi
eventlet.wsgi.server(eventlet.listen(('127.0.0.1', PORT)), wsgi)
"""),
    Sample("gevent, monkey-patched", "gevent", """
from gevent.pywsgi import WSGIServer
WSGIServer(('127.0.0.1', PORT), wsgi, log=None).serve_forever()
""", first="from gevent import monkey; monkey.patch_all()"),
    Sample("eventlet, monkey-patched", "eventlet", """
import eventlet.wsgi
eventlet.wsgi.server(eventlet.listen(('127.0.0.1', PORT)), wsgi)
""", first="import eventlet; eventlet.monkey_patch()"),
    Sample("twisted", "twisted", """
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site

class Answer(Resource):
    isLeaf = True

    def render_GET(self, request):
        return call(request.path.decode()).encode()

reactor.callWhenRunning(started)
reactor.listenTCP(PORT, Site(Answer()), interface="127.0.0.1")
reactor.run()
"""),
    Sample("hypercorn", "hypercorn", """
import asyncio
from hypercorn.asyncio import serve
from hypercorn.config import Config

config = Config()
config.bind = [f"127.0.0.1:{PORT}"]
asyncio.run(serve(asgi, config))
"""),
    Sample("quart", "quart", """
from quart import Quart
app = Quart(__name__)
app.before_serving(astarted)

@app.get("/")
@app.get("/tell/<word>")
async def answer(word=""):
    return call("/tell/" + word if word else "/")

app.run(port=PORT)
"""),
    Sample("sanic, single process", "sanic", SANIC + """
app.run(host='127.0.0.1', port=PORT, single_process=True)
"""),
    Sample("sanic, two workers", "sanic", SANIC + """
if __name__ == '__main__':
    app.run(host='127.0.0.1', port=PORT, workers=2)
"""),
    Sample("gunicorn", "gunicorn", """
from gunicorn.app.base import BaseApplication

class Server(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", f"127.0.0.1:{PORT}")
        self.cfg.set("pidfile", "server.pid")
        self.cfg.set("on_starting", lambda server: started())

    def load(self):
        return wsgi

Server().run()
"""),
    Sample("prometheus beside wsgiref", "prometheus_client", WSGIREF + f"""
from prometheus_client import start_http_server

if not autocron.in_worker():
    start_http_server(0, "127.0.0.1")
{SERVE}
""", sockets=2),
    Sample("uvicorn", "uvicorn", "import uvicorn\nuvicorn.run(asgi, port=PORT)"),
    Sample("uvicorn, Server.serve", "uvicorn", """
import asyncio, uvicorn
asyncio.run(uvicorn.Server(uvicorn.Config(asgi, port=PORT)).serve())
"""),
    Sample("uvicorn, two workers", "uvicorn", """
import uvicorn
if __name__ == '__main__':
    uvicorn.run('application:asgi', port=PORT, workers=2)
"""),
    Sample("uvicorn, reload", "uvicorn", """
import uvicorn
if __name__ == '__main__':
    uvicorn.run('application:asgi', port=PORT, reload=True)
"""),
    Sample("aiohttp", "aiohttp", AIOHTTP + "web.run_app(app, host='127.0.0.1', port=PORT)"),
    Sample("aiohttp, runner", "aiohttp", AIOHTTP + """
async def main():
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", PORT).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""),
    Sample("bottle", "bottle", """
import bottle
bottle.run(wsgi, host='127.0.0.1', port=PORT)
""", banner="Bottle v"),
    Sample("bottle, reloader", "bottle", """
import bottle
bottle.run(wsgi, host='127.0.0.1', port=PORT, reloader=True)
"""),
    Sample("granian", "granian", """
from granian import Granian

if __name__ == "__main__":
    Granian("application:asgi", address="127.0.0.1", port=PORT, interface="asgi").serve()
"""),
    Sample("granian, no guard", "granian", """
from granian.server.embed import Server
import asyncio
asyncio.run(Server(asgi, address="127.0.0.1", port=PORT, interface="asgi").serve())
"""),
    Sample("cherrypy", "cherrypy", """
import cherrypy

class Answer:
    @cherrypy.expose
    def default(self, *path):
        return call("/" + "/".join(path))

cherrypy.config.update({
    "server.socket_host": "127.0.0.1",
    "server.socket_port": PORT,
    "engine.autoreload.on": False,
})
cherrypy.engine.subscribe("start", started)
cherrypy.quickstart(Answer())
""", banner="Listening for SIGTERM"),
    Sample("except BaseException", "wsgiref", WSGIREF + f"""
try:
    {SERVE}
except BaseException:
    started()
finally:
    started()
started()
"""),
    Sample("retried for ever", "wsgiref", WSGIREF + f"""
import time

while True:
    try:
        {SERVE}
    except BaseException:
        started()
        time.sleep(1)
"""),
    Sample("in a thread", "wsgiref", WSGIREF + f"""
def serve():
    {SERVE}

thread = threading.Thread(target=serve)
thread.start()
thread.join()
"""),
    Sample("in a daemon thread", "wsgiref", WSGIREF + f"""
def serve():
    {SERVE}

threading.Thread(target=serve, daemon=True).start()
while True:
    signal.pause()
"""),
)  # fmt: skip

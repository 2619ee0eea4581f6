"""Pyramid: a button calls a task; the page shows the newest jobs. `python app.py [PORT]`"""

import sys
import time

import waitress
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther
from pyramid.response import Response

import autocron_web as autocron


@autocron.delay
def bake(cake: str) -> str:
    time.sleep(2)
    return f"a {cake} cake"


def index(request) -> Response:
    rows = "".join(f"<li>{job.status}: {job.result or ''}" for job in autocron.get_results(10))
    return Response(f"<form method=post action=/bake><button>Bake a cake</button></form><ul>{rows}</ul>")


def order(request) -> Response:
    bake("chocolate")
    return HTTPSeeOther("/")


with Configurator() as config:
    config.add_settings({"autocron.database": "pyramid_example.db", "autocron.status": True})
    config.include("autocron_web.pyramid")
    config.add_route("index", "/")
    config.add_route("bake", "/bake", request_method="POST")
    config.add_view(index, route_name="index")
    config.add_view(order, route_name="bake")
    app = config.make_wsgi_app()

if __name__ == "__main__":
    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)

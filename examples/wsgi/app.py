"""Falcon: a button calls a task; the page shows the newest jobs. `python app.py [PORT]`"""

import sys
import time

import falcon
import waitress

import autocron_web as autocron
from autocron_web.wsgi import AutocronMiddleware


@autocron.delay
def bake(cake: str) -> str:
    time.sleep(2)
    return f"a {cake} cake"


class Index:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        rows = "".join(f"<li>{job.status}: {job.result or ''}" for job in autocron.get_results(10))
        response.content_type = falcon.MEDIA_HTML
        response.text = f"<form method=post action=/bake><button>Bake a cake</button></form><ul>{rows}</ul>"


class Bake:
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        bake("chocolate")
        raise falcon.HTTPSeeOther("/")


bakery = falcon.App()
bakery.add_route("/", Index())
bakery.add_route("/bake", Bake())
app = AutocronMiddleware(bakery, database="wsgi_example.db", status=True)

if __name__ == "__main__":
    waitress.serve(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)

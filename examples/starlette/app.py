"""Starlette: a button calls a task; the page shows the newest jobs. `python app.py [PORT]`"""

import asyncio
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route

import autocron_web as autocron
from autocron_web.starlette import AutocronMiddleware


@autocron.delay
async def bake(cake: str) -> str:
    await asyncio.sleep(2)
    return f"a {cake} cake"


def index(
    request: Request,
) -> HTMLResponse:  # without async, so that a thread of Starlette's looks into the store
    rows = "".join(f"<li>{job.status}: {job.result or ''}" for job in autocron.get_results(10))
    return HTMLResponse(f"<form method=post action=/bake><button>Bake a cake</button></form><ul>{rows}</ul>")


async def order(request: Request) -> RedirectResponse:
    await bake.aenqueue("chocolate")
    return RedirectResponse("/", 303)


app = Starlette(
    routes=[Route("/", index), Route("/bake", order, methods=["POST"])],
    middleware=[Middleware(AutocronMiddleware, database="starlette_example.db", status=True)],
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000)

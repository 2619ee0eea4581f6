"""A small shop of Starlette."""

from __future__ import annotations

from small import DATABASE, WORKERS, answer
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from autocron_web.starlette import AutocronMiddleware


def page(request: Request) -> JSONResponse:
    return JSONResponse(answer(request.method, request.url.path))


app = Starlette(
    routes=[Route("/{path:path}", page, methods=["GET", "POST"])],
    middleware=[Middleware(AutocronMiddleware, database=DATABASE, workers=WORKERS)],
)

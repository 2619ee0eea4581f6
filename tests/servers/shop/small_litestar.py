"""A small shop of Litestar."""

from __future__ import annotations

from litestar import Litestar, Request, route
from litestar.enums import HttpMethod
from small import DATABASE, WORKERS, answer

from autocron_web.asgi import lifespan


@route(["/", "/{path:path}"], http_method=[HttpMethod.GET, HttpMethod.POST], status_code=200)
async def page(request: Request) -> dict[str, object]:
    return answer(request.method, request.url.path)


app = Litestar([page], lifespan=[lifespan(database=DATABASE, workers=WORKERS)])

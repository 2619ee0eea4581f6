"""A small shop of Pyramid: what `small.ini` and other servers call."""

from __future__ import annotations

from typing import Any

from pyramid.config import Configurator
from pyramid.request import Request
from small import DATABASE, WORKERS, answer


def page(request: Request) -> dict[str, object]:
    return answer(request.method, request.path)


def main(global_config: object = None, **settings: Any) -> Any:
    settings |= {"autocron.database": DATABASE, "autocron.workers": WORKERS}
    with Configurator(settings=settings) as config:
        config.include("autocron_web.pyramid")
        config.add_route("page", "/*path")
        config.add_view(page, route_name="page", renderer="json")
        return config.make_wsgi_app()

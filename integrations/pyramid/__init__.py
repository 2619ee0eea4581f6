"""Pyramid: one include, and every task runs with the registry and a request of the app.

config.include("autocron_web.pyramid")

What can be said about it stands in the settings, of the ini file or of the Configurator:

    autocron.database = shop.db
    autocron.workers = 2
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import autocron_web

from .. import execution
from ..engine import engine
from ..errors import ConfigError
from ..origin import app_origin
from ..settings import Settings, check_names, default_database, importable, main_name
from ..web.front import Front

try:
    from pyramid.config import PHASE0_CONFIG, Configurator
    from pyramid.events import ApplicationCreated
    from pyramid.interfaces import ISecurityPolicy
    from pyramid.request import Request
    from pyramid.response import Response
    from pyramid.scripting import prepare
except ImportError as error:
    raise ImportError("autocron_web.pyramid needs Pyramid: pip install 'autocron-web[pyramid]'") from error

#: The permission of the app that lets a visitor see more of the status than a word; and all of it.
PERMISSION, DETAIL_PERMISSION = "autocron.permission", "autocron.detail_permission"


def includeme(config: Configurator) -> None:
    """Set up autocron-web for the app that is being configured; it starts when the app is made.

    Settings: `autocron.database` (`<package of the app>.db`), `autocron.workers` (2), `autocron.status`
    (False), `autocron.url_prefix` (`/autocron`), `autocron.token`, `autocron.autostart` (True),
    `autocron.max_jobs`, `autocron.max_memory`,
    `autocron.permission`, `autocron.detail_permission`. They are read when the configuration is committed, so
    they may be set after the include. Raises `ConfigError` then, for one that cannot be.
    """
    config.add_request_method(lambda request: autocron_web, "autocron", reify=True)
    config.action("autocron", partial(_set_up, config), order=PHASE0_CONFIG)


def read(given: Mapping[str, Any]) -> Settings:
    """What the settings say; those of an ini file are text."""
    words = [_spell(word) for word in Settings._fields] + [PERMISSION, DETAIL_PERMISSION]
    check_names((word for word in given if word.startswith("autocron.")), words)
    return Settings.read(lambda word, default: _value(word, given.get(word, default)), _spell, {})


def _set_up(config: Configurator) -> None:
    words = read(config.get_settings())
    front = Front(words)
    paths = {_route(page): path for path, page in front.paths.items()}

    def show(request: Request) -> Response:
        # The path of the page, not of the request: that may be below the prefix of an include.
        path, shown = paths[request.matched_route.name], request.headers.get("Authorization")
        status, headers, body = front.answer(request.method, path, shown, _right(request))
        return Response(body, status, headers)

    def start(event: ApplicationCreated) -> None:
        _check_routes(config, paths, words.url_prefix)
        if words.autostart:
            name = _name(config)
            database = words.database or default_database(name, _spell("database"))
            engine.start_where_served(database, **words.pool, app_id=name, loader=app_origin())

    for route, path in paths.items():
        config.add_route(route, path)
        config.add_view(show, route_name=route)
    config.add_subscriber(start, ApplicationCreated)
    execution.surroundings.append(partial(prepare, registry=config.registry))


def _check_routes(config: Configurator, paths: Mapping[str, str], prefix: str) -> None:
    """Raise `ConfigError` if a request for the status comes to another route. The app's are all there now."""
    mapper = config.get_routes_mapper()
    for name in paths:
        path = "/" + mapper.get_route(name).pattern.lstrip("/")  # with the prefix of an include
        route = mapper(Request.blank(path))["route"]
        if route is None or route.name != name:
            raise ConfigError(
                f"the app has a route for {path} already, {getattr(route, 'pattern', path)!r}:"
                f" give another {_spell('url_prefix')} than {prefix!r},"
                " or include autocron_web.pyramid before it"
            )


def _right(request: Request) -> object:
    """What the app's security policy says. Without a policy Pyramid permits everything; we nothing."""
    if request.registry.queryUtility(ISecurityPolicy) is None:
        return False
    settings = request.registry.settings
    for setting, right in ((DETAIL_PERMISSION, "detail"), (PERMISSION, True)):
        if settings.get(setting) and request.has_permission(settings[setting]):
            return right
    return False


def _name(config: Configurator) -> str:
    """The package of the app; what it is called as a program, where that is all there is."""
    name = importable(config.root_package.__name__)
    return (main_name() or name) if name == "__main__" else name.partition(".")[0]


def _route(page: str) -> str:
    return f"autocron_{page}"


def _spell(word: str) -> str:
    return f"autocron.{word}"


#: What a number or a truth may look like in an ini file. Whatever else stands there is refused as it is.
_TRUTHS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def _value(word: str, given: Any) -> Any:
    if not isinstance(given, str):
        return given
    if word in (_spell("status"), _spell("autostart")):
        return _TRUTHS.get(given.strip().lower(), given)
    if word in map(_spell, ("workers", "max_jobs", "max_memory")):
        return int(given) if given.strip().isdecimal() else given
    return given.strip() or None if word in (_spell("database"), _spell("token")) else given.strip()

"""System checks: `manage.py check`, `runserver` and `migrate` name what is wrong with `AUTOCRON`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from ..web.front import PAGES
from . import config


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """One message for each key or value of `AUTOCRON` that cannot be."""
    messages: list[CheckMessage] = [
        Error(problem.sentence, hint=problem.hint, id="autocron.E001") for problem in config.find_problems()
    ]
    trouble = getattr(apps.get_app_config("autocron"), "trouble", None)
    if trouble is not None and not messages:
        messages.append(Error(str(trouble), id="autocron.E002"))
    return messages or list(_check_urls())


def _check_urls() -> Iterator[CheckMessage]:
    """Whether the status can be reached, where it is asked for."""
    wanted = getattr(settings, "AUTOCRON", {}).get("STATUS")
    if any(_includes_status()):
        if wanted is not False:
            yield from _covered_pages()
    elif wanted:
        yield Warning(
            "AUTOCRON['STATUS'] is True, but no URL leads to it",
            hint="Add path('autocron/', include('autocron_web.django.urls')) to the URLs of the project.",
            id="autocron.W001",
        )


def _covered_pages() -> Iterator[CheckMessage]:
    """One message for each page of the status whose path another view answers."""
    from django.urls import NoReverseMatch, resolve, reverse

    from . import urls

    for page in PAGES:
        try:
            path = reverse(f"autocron:{page}")
        except NoReverseMatch:
            return  # included below a namespace, or a prefix with arguments: those are the project's to know
        view = resolve(path)
        if view.func is not urls.show:
            yield Error(
                f"{path} does not lead to the status: {view._func_path} answers it before",
                hint="Put the include of 'autocron_web.django.urls' above it, or give it another path.",
                id="autocron.E003",
            )


def _includes_status(patterns: Any = None) -> Iterator[bool]:
    """Whether the URLs of the status are among the project's."""
    from django.urls import get_resolver

    if patterns is None:
        if not getattr(settings, "ROOT_URLCONF", None):
            return
        patterns = get_resolver().url_patterns
    for pattern in patterns:
        if getattr(pattern, "app_name", None) == "autocron":
            yield True
        yield from _includes_status(getattr(pattern, "url_patterns", []))

"""How a worker loads a project: by its settings, as every other process of the project does."""

from __future__ import annotations

from importlib import import_module

import django
from django import db
from django.conf import settings

from . import surroundings


def load() -> None:
    """Set up Django, and import the URLs, whose views may have tasks and crons beside them."""
    surroundings.install()
    django.setup()
    urls = getattr(settings, "ROOT_URLCONF", None)
    if urls:
        import_module(urls)
    db.connections.close_all()  # what the project has asked while it was loaded: each task connects anew

"""The app of `INSTALLED_APPS`: starts the pool where the project is served."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.utils.module_loading import autodiscover_modules

from .. import serving
from ..engine import engine
from ..errors import ConfigError
from ..origin import app_origin, django_loader
from . import config, surroundings
from .checks import check_settings


class AutocronConfig(AppConfig):
    """Imports `tasks.py` of all apps, and starts the pool or joins the one that runs."""

    name = "autocron_web.django"
    label = "autocron"
    verbose_name = "autocron-web"

    #: Why the start failed where it must not raise: a system check says it.
    trouble: ConfigError | None = None

    def ready(self) -> None:
        """Raises `ConfigError` for wrong settings, but in management commands: there system checks say it."""
        checks.register(check_settings, "autocron")
        autodiscover_modules("tasks")
        surroundings.install()
        process = serving.this_process()
        if serving.is_django_test(process):
            from ..testing import run_inline

            run_inline()
        try:
            start()
        except ConfigError as error:
            if not serving.is_django_command(process):
                raise
            self.trouble = error


def start() -> None:
    """Start the pool if this process serves. Raises `ConfigError`."""
    words, on_commit = config.read()
    if on_commit:
        engine.transaction = surroundings.transaction
    if words.autostart:
        assert words.database is not None
        loader = django_loader() or app_origin()
        engine.start_where_served(words.database, **words.pool, app_id=config.project(), loader=loader)

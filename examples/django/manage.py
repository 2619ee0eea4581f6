"""The shop: `python examples/django/manage.py` serves it on http://127.0.0.1:8000."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    if len(sys.argv) == 1:
        if "RUN_MAIN" not in os.environ:  # not again in the reloader's child
            execute_from_command_line(["manage.py", "migrate", "--verbosity", "0"])
        sys.argv += ["runserver", os.environ.get("PORT", "8000")]
    execute_from_command_line(sys.argv)

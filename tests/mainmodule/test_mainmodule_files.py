"""Which files are the app's: workers are replaced when one of them has changed."""

from __future__ import annotations

import json
import sys
import sysconfig

import pytest

from autocron_web.pool.mainmodule import is_app


@pytest.mark.parametrize("file", ["/srv/shop/app.py", f"{sys.prefix}/src/shop/app.py"])
def test_a_file_outside_of_the_libraries_is_the_apps(file: str) -> None:
    assert is_app(file)


@pytest.mark.parametrize(
    "file",
    [
        json.__file__,
        f"{sysconfig.get_path('purelib')}/flask/app.py",
        "/usr/lib/python3/dist-packages/flask/app.py",
        sys.modules[is_app.__module__].__file__,
        "<string>",
        "<frozen importlib._bootstrap>",
    ],
)
def test_a_librarys_file_is_not(file: str) -> None:
    assert not is_app(file)

"""What users install: the same files under the same names from a clone, a wheel and an sdist."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import CHECKOUT, need

CORE = CHECKOUT / "autocron_web"
INTEGRATIONS = CHECKOUT / "integrations"

#: Modules that take long to import, and frameworks, which a user may not have.
NOT_AT_IMPORT = {
    *("asyncio", "dataclasses", "decimal", "logging", "multiprocessing", "uuid"),
    *("click", "rich", "psycopg"),
    *("bottle", "django", "flask", "pyramid", "starlette", "tornado"),
}

long = pytest.mark.timeout(300)  # builds, makes environments, installs

Install = Callable[..., Path]


def setuptools_settings() -> Any:
    return tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]


def files_below(folder: Path) -> Iterator[Path]:
    """All files that belong to a package, without following links."""
    for path, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(path, name) for name in names)


def package_files() -> dict[str, str]:
    """Where each file of ours is once installed, and where it is in the clone."""
    core = {str(file.relative_to(CHECKOUT)): file for file in files_below(CORE)}
    adapters = {
        str(Path("autocron_web", file.relative_to(INTEGRATIONS))): file for file in files_below(INTEGRATIONS)
    }
    return {name: str(file.relative_to(CHECKOUT)) for name, file in (core | adapters).items()}


def copy_of_the_clone(target: Path) -> Path:
    """The files of the clone without what was made in it, so that a build leaves no trace there."""
    made = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist")
    return shutil.copytree(CHECKOUT, target, symlinks=True, ignore=made)


def run_successfully(*command: object, cwd: Path = CHECKOUT) -> str:
    """Run a program without the clone on its path; the answer is its output."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_mapping_links_and_folders_are_equal() -> None:
    folders = {folder.name for folder in INTEGRATIONS.iterdir() if folder.name != "__pycache__"}
    links = {entry.name: os.readlink(entry) for entry in CORE.iterdir() if entry.is_symlink()}
    assert links == {name: f"../integrations/{name}" for name in folders}
    assert setuptools_settings()["package-dir"] == {
        f"autocron_web.{name}": f"integrations/{name}" for name in folders
    }


def test_every_folder_with_code_is_a_listed_package() -> None:
    code = {Path(name).parent for name in package_files() if name.endswith(".py")}
    assert sorted(setuptools_settings()["packages"]) == sorted(".".join(folder.parts) for folder in code)
    without_init = [str(folder) for folder in code if str(folder / "__init__.py") not in package_files()]
    assert without_init == []


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel and an sdist, the wheel built from the sdist as an index's user would."""
    builder = need("pyproject-build")
    folder = tmp_path_factory.mktemp("built")
    source = copy_of_the_clone(folder / "clone")
    run_successfully(builder, "--no-isolation", "--outdir", folder, source)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.mark.once
@long
def test_the_wheel_contains_each_file_once_and_nothing_else(built: dict[str, Path]) -> None:
    names = [name for name in zipfile.ZipFile(built["wheel"]).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(package_files())
    assert "autocron_web/py.typed" in names


@pytest.mark.once
@long
def test_the_sdist_contains_each_file_once_and_no_tests(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        names = [member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()]
    code = [name for name in names if name.endswith((".py", "py.typed"))]
    assert sorted(code) == sorted(package_files().values())
    assert {"LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"} <= set(names)


@pytest.fixture
def install(tmp_path: Path) -> Install:
    """`install(what, …)`: what pip installs into a new environment; the answer is its Python.

    deps: False to take what it depends on from the environment of these tests: that is a hundred megabytes,
    and the disk is busy with the tests that run at the same time.
    """

    def make(*what: object, deps: bool = True) -> Path:
        folder = tmp_path / "environment"
        run_successfully(sys.executable, "-m", "venv", "--without-pip", folder)
        python = folder / "bin" / "python"
        options = ["--quiet"] if deps else ["--quiet", "--no-deps"]
        run_successfully(sys.executable, "-m", "pip", "--python", python, "install", *options, *what)
        if not deps:
            [packages] = folder.glob("lib/python*/site-packages")
            # Only this folder: what a .pth in it adds, such as the clone, is not added here.
            packages.joinpath("deps.pth").write_text(sysconfig.get_path("purelib"))
        return python

    return make


def answer(python: Path | str, code: str, folder: Path) -> Any:
    """What the code prints as JSON, run by `python` in `folder`."""
    return json.loads(run_successfully(python, "-c", code, cwd=folder))


IMPORT_ALL = """
import importlib, importlib.metadata, json, pkgutil, autocron_web
names = [module.name for module in pkgutil.walk_packages(autocron_web.__path__, "autocron_web.")]
needs_pytest = "autocron_web.pytest_plugin"  # imported by pytest alone
files = [importlib.import_module(name).__file__ for name in names if name != needs_pytest]
print(json.dumps([names, files, autocron_web.__version__, importlib.metadata.version("autocron-web")]))
"""


@pytest.mark.once
@long
@pytest.mark.parametrize(
    ("kind", "deps"),
    [
        ("wheel", False),
        pytest.param("sdist", False, marks=pytest.mark.matrix),
        pytest.param("wheel", True, marks=pytest.mark.matrix),
    ],
)
def test_all_modules_can_be_imported_where_it_is_installed(
    kind: str, deps: bool, built: dict[str, Path], install: Install, tmp_path: Path
) -> None:
    python = install(f"autocron-web[all] @ {built[kind].as_uri()}", *["pytest"] * deps, deps=deps)
    names, files, version, installed_version = answer(python, IMPORT_ALL, tmp_path)
    modules = {
        name.removesuffix(".py").removesuffix("/__init__") for name in package_files() if name.endswith(".py")
    }
    assert {"autocron_web", *names} == {name.replace("/", ".") for name in modules}
    assert all(file.startswith(str(tmp_path)) for file in files)
    assert version == installed_version


@pytest.mark.matrix
@pytest.mark.once
@long
def test_an_editable_install_needs_no_links(install: Install, tmp_path: Path) -> None:
    clone = copy_of_the_clone(tmp_path / "clone")  # as on a file system, or by a git, that knows no links
    for entry in (clone / "autocron_web").iterdir():
        if entry.is_symlink():
            entry.unlink()
    python = install("--editable", f"{clone}[all]", deps=False)
    for name in (folder.name for folder in INTEGRATIONS.iterdir()):
        code = f"import json, autocron_web.{name} as adapter; print(json.dumps(adapter.__file__))"
        assert answer(python, code, tmp_path) == str(clone / "integrations" / name / "__init__.py")


def test_importing_it_imports_nothing_heavy_and_no_framework() -> None:
    imported = "import json, sys; before = set(sys.modules); import autocron_web; after = set(sys.modules);"
    code = imported + "print(json.dumps(sorted(after - before)))"
    assert set(answer(sys.executable, code, CHECKOUT)).isdisjoint(NOT_AT_IMPORT)


def test_importing_it_starts_nothing_and_opens_nothing() -> None:
    code = """
import json, sys
seen = []
starts = ("os.exec", "os.fork", "os.posix_spawn", "signal.", "socket.", "sqlite3.", "subprocess.")
def note(event, arguments):
    if event.startswith(starts) or (event == "open" and arguments[1] not in (None, "r", "rb")):
        seen.append(f"{event} {arguments}")
sys.addaudithook(note)
sys.dont_write_bytecode = True  # Python's cache is no file of ours
import autocron_web
print(json.dumps([seen, len(sys._current_frames())]))
"""
    nothing: list[str] = []
    threads = 1
    assert answer(sys.executable, code, CHECKOUT) == [nothing, threads]

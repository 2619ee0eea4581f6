"""Where a SQLite file may lie: not mounted by itself, and not under two names."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autocron_web.store import sqlite_open
from conftest import RunScript, cannot_run

pytestmark = pytest.mark.once  # nothing here depends on the version of Python

OPEN = """
import sys
import autocron_web as autocron
from autocron_web.errors import StoreError
try:
    autocron.start(sys.argv[1], app_id="shop", strict=True, serve=False)
    print("opened")
except StoreError as error:
    print(error)
"""


def test_a_mount_is_found_by_its_path() -> None:
    mounts = (  # proc(5)
        "22 1 252:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "40 22 252:0 /srv/shop.db /data/with\\040blank\\134/shop.db rw,relatime - ext4 /dev/vda rw\n"
        "41 22 0:5 /data/not.db /elsewhere rw - tmpfs /data/not.db rw\n"
    )
    assert sqlite_open.is_mounted("/data/with blank\\/shop.db", mounts)
    assert not sqlite_open.is_mounted("/data/with blank\\/shop.db-wal", mounts)
    assert not sqlite_open.is_mounted("/data/not.db", mounts)
    assert not sqlite_open.is_mounted("/data/with", mounts)


@pytest.mark.parametrize("name", ["shop.db", "my shop.db"])
def test_a_file_that_is_mounted_without_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    if shutil.which("unshare") is None:
        cannot_run("there is no unshare")
    script, host, data = tmp_path / "shop.py", tmp_path / "host", tmp_path / "data"
    script.write_text(OPEN)
    for folder in (host, data):
        folder.mkdir()
    for file in (host / name, data / name):
        file.touch()
    mount = 'mount --bind "$1" "$2" || exit 77; exec "$3" "$4" "$2"'
    command = ["unshare", "-rm", "sh", "-c", mount, "sh", host / name, data / name, sys.executable, script]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if ended.returncode == 77 or "unshare" in ended.stderr:
        cannot_run(f"nothing can be mounted here: {ended.stderr}")
    assert f"{data / name} is mounted by itself, without its folder" in ended.stdout, ended.stderr
    assert f"docker -v /srv/data:{data}" in ended.stdout
    assert (host / name).read_bytes() == b""
    command[command.index(data / name)] = data  # the folder instead
    command[command.index(host / name)] = host
    command[4] = 'mount --bind "$1" "$2" || exit 77; exec "$3" "$4" "$2/' + name + '"'
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "opened\n", ended.stderr


def test_two_names_of_a_database_have_one_pool(run_script: RunScript, tmp_path: Path, home: Path) -> None:
    source = """
import sys, time
import autocron_web as autocron

if __name__ == "__main__":
    print(autocron.start(sys.argv[1], app_id="shop", workers=1), flush=True)
    while True:
        time.sleep(1)
"""
    (home / "link.db").symlink_to("real.db")
    (home / "real.db").touch()
    first = run_script(source, str(home / "real.db"), wait=False)
    first.wait_for("True")
    second = run_script(source, str(home / "link.db"), wait=False)
    second.wait_for("False")
    assert sorted(file.name for file in home.iterdir() if "link" in file.name) == ["link.db"]

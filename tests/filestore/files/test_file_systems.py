"""Which kind of file system a directory is on, and which kinds are warned of."""

from __future__ import annotations

import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.files.file_systems import is_remote, kind_of
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

MOUNTS = r"""
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
36 21 0:31 / /mnt/my\040disk rw,nosuid shared:19 master:2 - fuse.sshfs u@host:/x rw,user_id=0
37 21 0:32 /a\040-\040b /mnt/nfs rw - nfs4 server:/a\040-\040b rw,vers=4.2
38 37 0:33 / /mnt/nfs rw - ext4 /dev/sdb1 rw
"""


@pytest.mark.parametrize(
    ("number", "kind"),
    [("21", "ext4"), ("36", "fuse.sshfs"), ("37", "nfs4"), ("38", "ext4"), ("3", "")],
)
def test_a_mount_is_found_by_its_number(number: str, kind: str) -> None:
    assert kind_of(f"pos:\t0\nflags:\t02\nmnt_id:\t{number}\nino:\t2\n", MOUNTS) == kind


def test_without_a_number_the_kind_is_unknown() -> None:
    assert kind_of("pos:\t0\n", MOUNTS) == ""


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "afs"),
        *("fuse", "fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs", "fuse.ceph-fuse"),
        *("fuse.juicefs", "fuse.gcsfuse", "fuse.unheard-of", "vboxsf", "fuse.vmhgfs-fuse"),
    ],
)
def test_file_systems_of_networks_and_programs_are_remote(kind: str) -> None:
    assert is_remote(kind)


@pytest.mark.parametrize(
    "kind", ["", "ext4", "xfs", "btrfs", "zfs", "overlay", "tmpfs", "fuseblk", "fuse.bindfs"]
)
def test_those_of_a_disk_are_not(kind: str) -> None:
    assert not is_remote(kind)


def test_links_blanks_and_other_mounts_do_not_hide_the_kind(tmp_path: Path) -> None:
    """In a mount namespace of its own, which most systems allow everybody."""
    disk, link = tmp_path / "my disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to("my disk")
    paths = [str(path) for path in (disk, link, disk / "below", tmp_path)]
    program = "import sys; from durable_streams.filestore.files.disk import Disk; "
    program += "print([Disk().file_system(path) for path in sys.argv[1:]])"
    steps = (
        ["mount", "-t", "ramfs", "none", str(disk)],
        ["mkdir", str(disk / "below")],
        [sys.executable, "-c", program, *paths],
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", " && ".join(map(shlex.join, steps))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr}")
    assert done.stdout == f"{['ramfs'] * 3 + [Disk().file_system(tmp_path)]}\n", done.stderr

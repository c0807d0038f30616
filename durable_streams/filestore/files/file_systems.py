"""Kinds of file systems, and which of them keep no promise that this machine could hold them to.

On a network file system, ``fsync`` and locks hold as far as its server, its cache and its mount
options want.  A file system in user space does what its program does; most of those that are met
are networks as well.
"""

from __future__ import annotations

import re
from typing import Final

REMOTE: Final = frozenset(
    {
        *("nfs", "nfs3", "nfs4"),
        *("cifs", "smb2", "smb3", "smbfs", "ncpfs"),
        *("9p", "virtiofs", "vboxsf", "prl_fs", "hgfs", "vmhgfs", "drvfs"),  # a virtual machine's
        *("ceph", "glusterfs", "lustre", "gpfs", "beegfs", "orangefs", "pvfs2", "panfs", "wekafs"),
        *("afs", "coda", "davfs", "sshfs", "s3fs", "juicefs", "moosefs"),
        "fuse",
    }
)
"""By the names that mount tables have, without what comes behind a dot."""

LOCAL_FUSE: Final = frozenset(
    f"fuse.{name}"
    for name in ("bindfs", "mergerfs", "gocryptfs", "encfs", "cryfs", "ntfs-3g", "exfat", "ext2")
)
"""File systems in user space that stand on a disk of this machine."""

_MOUNT: Final = re.compile(r"^mnt_id:\s*([0-9]+)$", re.MULTILINE)


def is_remote(kind: str) -> bool:
    """Whether locks and ``fsync`` of a kind of file system cannot be relied on."""
    return kind.partition(".")[0] in REMOTE and kind not in LOCAL_FUSE


def kind_of(info: str, mounts: str) -> str:
    """The kind of file system (``ext4``, ``fuse.sshfs``) that an open file is on; empty if unknown.

    From ``/proc/self/fdinfo`` of the file and ``/proc/self/mountinfo``: by the number of the mount,
    which no symbolic link, blank in a name or mount over another hides.
    """
    number = _MOUNT.search(info)
    if number is None:
        return ""
    for line in mounts.split("\n"):
        mount, _, source = line.partition(" - ")  # before it a number of optional fields
        if mount.partition(" ")[0] == number[1]:
            return source.partition(" ")[0]
    return ""

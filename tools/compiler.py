"""The C compiler, and what it makes of C that a tool needs: once, until the sources change."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

_BUILT: Final = Path(__file__).resolve().parent.parent / ".bench" / "build"
_FLAGS: Final = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror")


class NotCompiled(Exception):
    """There is no compiler, or it refused; the text says which."""


def find_compiler() -> str | None:
    """The C compiler, if there is one."""
    return os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")


def compiled(name: str, directory: Path, *options: str) -> Path:
    """What is made of the C in a directory, under a name that changes when that does.

    :raises NotCompiled: it could not be made.
    """
    compiler = find_compiler()
    if compiler is None:
        raise NotCompiled("there is no C compiler: run scripts/setup bench")
    flags = (*_FLAGS, *options)
    content = b"".join(path.read_bytes() for path in sorted(directory.glob("*.[ch]")))
    stamp = hashlib.sha256(content + " ".join((compiler, *flags)).encode()).hexdigest()[:16]
    made = _BUILT / f"{name}-{stamp}"
    if made.exists():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    unfinished = made.with_suffix(f".{os.getpid()}")
    sources = map(str, sorted(directory.glob("*.c")))
    done = subprocess.run(
        [compiler, *flags, "-o", str(unfinished), *sources],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotCompiled(f"{directory} does not compile:\n{done.stderr}")
    unfinished.replace(made)
    return made

"""The next version of this program, whose tables have one more step: a copy with that step."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Final

from durable_streams.postgres.versions import STEPS, VERSION
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LIGHT: Final = """
alter table ds.streams add column label text not null default '';
create index streams_labelled on ds.streams (label) where label <> '';
"""
"""What nodes of today's version do not notice."""

NEXT: Final = VERSION + 1

_END: Final = ')\n"""All there ever were'
_SCRIPT: Final = f"""#!{sys.executable}
import sys
from durable_streams.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""Finds the package beside it before any other."""


def next_program(directory: Path, needs: int = STEPS[-1].needs, sql: str = LIGHT) -> Path:
    """Make it; where its programs are.  ``needs``: the oldest version that bears its step."""
    package = directory / "durable_streams"
    shutil.copytree(ROOT / "durable_streams", package, ignore=shutil.ignore_patterns("__pycache__"))
    versions = package / "postgres" / "versions.py"
    text = versions.read_text()
    assert text.count(_END) == 1
    versions.write_text(text.replace(_END, f"    Step({NEXT}, {needs}, {sql!r}),\n{_END}"))
    programs = {"python": f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'}
    programs |= dict.fromkeys(("durable-streams", "durable-streams-server"), _SCRIPT)
    for name, text in programs.items():
        (directory / name).write_text(text)
        (directory / name).chmod(0o755)
    return directory

"""The man page and what completes commands in shells, made from the parser of the command line.

usage: python -m tools.manual DIRECTORY

Below the directory is what goes into ``/usr/local``: each file where its reader looks for it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import shtab
from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]

from durable_streams.cli import make_parser
from durable_streams.program import PROGRAM, version

if TYPE_CHECKING:
    from collections.abc import Iterator

ALSO_CALLED: Final = "durable-streams-server"
"""The same program by the name of the distribution."""

COMPLETIONS: Final = {
    "bash": f"share/bash-completion/completions/{PROGRAM}",
    "zsh": f"share/zsh/site-functions/_{PROGRAM}",
    "fish": f"share/fish/vendor_completions.d/{PROGRAM}.fish",
}
_BASH_BY_ITS_OTHER_NAME: Final = f"share/bash-completion/completions/{ALSO_CALLED}"
_FISH_BY_ITS_OTHER_NAME: Final = f"share/fish/vendor_completions.d/{ALSO_CALLED}.fish"
MAN_PAGE: Final = f"share/man/man1/{PROGRAM}.1"

_NAMES_FILES: Final = frozenset({"FILE", "--data-dir", "--unix-socket", "directory", "path"})
"""Flags, what else they are followed by, and arguments; other paths are parts of URLs."""


def files() -> dict[str, str]:
    """What there is, by where it goes."""
    bash, zsh, fish = (shtab.complete(_for_shells(), shell) for shell in COMPLETIONS)
    before, registered, name = bash.rpartition(f" {PROGRAM}")
    assert not name.strip(), name
    bash = f"{before}{registered} {ALSO_CALLED}\n"
    first, mark, rest = zsh.partition("\n")
    return {
        MAN_PAGE: _man_page(),
        COMPLETIONS["bash"]: bash,
        _BASH_BY_ITS_OTHER_NAME: bash,  # bash looks for a file of the command's name
        COMPLETIONS["zsh"]: f"{first} {ALSO_CALLED}{mark}{rest}",
        COMPLETIONS["fish"]: fish,
        _FISH_BY_ITS_OTHER_NAME: f"complete -c {ALSO_CALLED} -w {PROGRAM}\n",  # as does fish
    }


def _man_page() -> str:
    parser = make_parser()
    about = {
        "project_name": "durable-streams-server",
        "version": version(),
        "manual_title": "Durable Streams",
        "description": "a server for the Durable Streams protocol",
    }
    first, mark, rest = str(Manpage(parser, about)).partition("\n")
    # No justified lines: beside the longest words of usages there is nothing to be spread.
    return f"{first}{mark}.ad l\n{rest}"


def _for_shells() -> argparse.ArgumentParser:
    """The parser, told what shells have to know: what is a file, and what is one of a few words."""
    parser = make_parser()
    for action in _actions_of(parser):
        if str(action.metavar).startswith("{"):  # settings check what they are given themselves
            action.choices = str(action.metavar).strip("{}").split(",")
        names = action.option_strings or [action.dest]
        if _NAMES_FILES.intersection([*names, str(action.metavar)]):
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def _actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions_of(command)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("manual: say where to: a directory, such as /usr/local")
    for path, text in files().items():
        file = Path(sys.argv[1], path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()

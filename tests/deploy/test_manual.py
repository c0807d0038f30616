"""The man page and the completions, read by what they are made for."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final

import pytest

from tools import manual
from tools.server_process import ROOT

TO_THE_BEGINNING: Final = "\x01"
"""Control-A, of the line."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of it is."""
    directory = tmp_path_factory.mktemp("manual")
    subprocess.run([ROOT / "scripts" / "manual", directory], check=True)
    return directory


def completed(made: Path, *words: str) -> list[str]:
    """What bash offers for the last of the words of a command."""
    told = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
    how = told + 'COMPREPLY=(); _shtab_durable_streams; printf "%s\\n" "${COMPREPLY[@]}"'
    script = str(made / manual.COMPLETIONS["bash"])
    command = ["bash", "-c", how, "bash", script, "durable-streams", *words]
    run = subprocess.run(command, cwd=made, capture_output=True, text=True, check=False)
    assert run.stderr == ""
    return run.stdout.split()


def test_bash_completes_commands_flags_choices_and_files(made: Path) -> None:
    assert completed(made, "ser") == ["serve"]
    assert completed(made, "serve", "--data") == ["--data-dir"]
    assert completed(made, "serve", "--durability", "") == ["fsync", "interval", "none"]
    assert completed(made, "token", "re") == ["revoke"]
    assert completed(made, "app") == ["append"]
    assert completed(made, "context", "u") == ["use"]
    assert completed(made, "read", "--format", "e") == ["envelope"]
    assert completed(made, "append", "--file", "sh") == ["share"]
    assert completed(made, "serve", "--data-dir", "sh") == ["share"]


def in_bash(made: Path) -> str:
    return f"source {shlex.quote(str(made / manual.COMPLETIONS['bash']))}"


def in_zsh(made: Path) -> str:
    """As it is where the functions of the system are found by themselves."""
    directory = shlex.quote(str((made / manual.COMPLETIONS["zsh"]).parent))
    return f"bindkey -e; fpath=({directory} $fpath); autoload -U compinit; compinit -u -D"


SHELLS: Final = {
    "bash": (("bash", "--norc", "--noprofile", "-i"), in_bash),
    "zsh": (("zsh", "-f", "-i"), in_zsh),
}


def typed(made: Path, shell: str, line: str) -> list[str]:
    """The words of a command line in a shell's terminal, behind which the tabulator was pressed."""
    command, begin = SHELLS[shell]
    keys = f"{begin(made)}\r{line}\t{TO_THE_BEGINNING}printf '<%s>\\n' \rexit\r"
    own = {"TERM": "dumb", "INPUTRC": "/dev/null", "PATH": "/usr/bin:/bin", "HOME": str(made)}
    terminal, its_other_end = pty.openpty()
    with (
        FileIO(terminal, "r+") as keyboard,
        subprocess.Popen(
            command,
            stdin=its_other_end,
            stdout=its_other_end,
            stderr=its_other_end,
            cwd=made,
            env=own,
            start_new_session=True,
        ),
    ):
        os.close(its_other_end)
        keyboard.write(keys.encode())
        shown = b""
        with suppress(OSError):  # how the end of a terminal is told
            while read := keyboard.read(4096):
                shown += read
    return re.findall(r"^<(.+)>\r?$", shown.decode(), re.MULTILINE)


@pytest.mark.parametrize("shell", ["bash", pytest.param("zsh", marks=pytest.mark.needs("zsh"))])
@pytest.mark.parametrize("name", ["durable-streams", "durable-streams-server"])
def test_the_tabulator_completes_in_a_terminal_by_both_names(
    made: Path, shell: str, name: str
) -> None:
    def completes(line: str, *words: str) -> None:
        found = [word.rstrip("/") for word in typed(made, shell, f"{name} {line}")]
        assert found == [name, *words]

    completes("ser", "serve")
    completes("serve --durab", "serve", "--durability")
    completes("serve --durability f", "serve", "--durability", "fsync")
    completes("token rev", "token", "revoke")
    completes("verify sha", "verify", "share")
    completes("tail --unt", "tail", "--until")


@pytest.mark.needs("fish")
@pytest.mark.parametrize("name", ["durable-streams", "durable-streams-server"])
def test_fish_completes_commands_flags_choices_and_files_by_both_names(
    made: Path, name: str
) -> None:
    """It says itself what it would offer, also where it finds the files by itself."""
    own = {"HOME": str(made), "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/bin"])}
    here = {**os.environ, **own, "XDG_DATA_DIRS": f"{made / 'share'}:/usr/share"}

    def offered(line: str) -> list[str]:
        ask = ["fish", "-c", 'complete -C "$argv"', f"{name} {line}"]
        run = subprocess.run(ask, cwd=made, env=here, capture_output=True, text=True, check=True)
        return [said.partition("\t")[0] for said in run.stdout.splitlines()]

    assert offered("ser") == ["serve"]
    assert offered("serve --data") == ["--data-dir"]
    assert offered("serve --durability ") == ["fsync", "interval", "none"]
    assert offered("token rev") == ["revoke"]
    assert offered("serve --data-dir sh") == ["share/"]


@pytest.mark.needs("groff")
def test_groff_finds_nothing_wrong_with_the_man_page(made: Path) -> None:
    command = ["groff", "-man", "-ww", "-Tascii", str(made / manual.MAN_PAGE)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    for told in (
        "a server for the Durable Streams protocol",
        "--data-dir PATH",
        "sign-url",
        "--spool-bytes",
    ):
        assert told in run.stdout

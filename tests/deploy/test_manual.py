"""The man page and the completions, read by what they are made for."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING, Final

import pytest

from tools import manual
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

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


def typed(made: Path, line: str) -> list[str]:
    """The words of a command line in a terminal's bash, behind which the tabulator was pressed."""
    script = shlex.quote(str(made / manual.COMPLETIONS["bash"]))
    keys = f"source {script}\r{line}\t{TO_THE_BEGINNING}printf '<%s>\\n' \rexit\r"
    bash = ["bash", "--norc", "--noprofile", "-i"]
    own = {"TERM": "dumb", "INPUTRC": "/dev/null", "PATH": "/usr/bin:/bin"}
    terminal, its_other_end = pty.openpty()
    with (
        FileIO(terminal, "r+") as keyboard,
        subprocess.Popen(
            bash,
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


@pytest.mark.parametrize("name", ["durable-streams", "durable-streams-server"])
def test_the_tabulator_completes_in_a_terminal_by_both_names(made: Path, name: str) -> None:
    assert typed(made, f"{name} ser") == [name, "serve"]
    assert typed(made, f"{name} serve --durab") == [name, "serve", "--durability"]
    assert typed(made, f"{name} serve --durability f") == [name, "serve", "--durability", "fsync"]
    assert typed(made, f"{name} verify sha") == [name, "verify", "share/"]
    assert typed(made, f"{name} tail --unt") == [name, "tail", "--until"]


def test_zsh_has_a_file_of_the_form_that_it_loads(made: Path) -> None:
    text = (made / manual.COMPLETIONS["zsh"]).read_text()
    assert text.startswith("#compdef durable-streams durable-streams-server\n")
    assert "--data-dir" in text


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

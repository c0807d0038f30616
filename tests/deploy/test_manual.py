"""The man page and the completions, read by what they are made for."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tools import manual

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of it is."""
    directory = tmp_path_factory.mktemp("manual")
    for path, text in manual.files().items():
        file = directory / path
        file.parent.mkdir(parents=True)
        file.write_text(text)
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
    assert completed(made, "serve", "--data-dir", "sh") == ["share"]


def test_zsh_has_a_file_of_the_form_that_it_loads(made: Path) -> None:
    text = (made / manual.COMPLETIONS["zsh"]).read_text()
    assert text.startswith("#compdef durable-streams\n")
    assert "--data-dir" in text


@pytest.mark.needs("groff")
def test_groff_finds_nothing_wrong_with_the_man_page(made: Path) -> None:
    command = ["groff", "-man", "-ww", "-Tascii", str(made / manual.MAN_PAGE)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    for told in ("a server for the Durable Streams protocol", "--data-dir PATH", "sign-url"):
        assert told in run.stdout

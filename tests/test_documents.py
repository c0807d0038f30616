"""What the README and the documentation say is run: their shell and Python blocks, in order.

A ``sh`` block runs in a shell beside the data directory of a real server.  A ``python`` block runs
as a program of its own; one that listens on port 8080 is asked for an answer and then interrupted.
A ``text`` block holds lines that the block before it printed, in that order.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.node import running_in_ci
from tests.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartServer

DOCUMENTS: Final = [
    "README.rst",
    "docs/quickstart.rst",
    "docs/library.rst",
    "docs/embedding.rst",
    "docs/maintenance.rst",
    "docs/backup.rst",
]
THERE_ALREADY: Final = {"docs/backup.rst": "chat/room-1"}
"""The stream that a document takes for granted."""

SERVER: Final = "localhost:4437"
APPLICATION_PORT: Final = "8080"
_PATH: Final = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
_BLOCK: Final = re.compile(
    r"^\.\. code-block:: (?P<language>\w+)\n\n(?P<code>(?:(?: {4}.*)?\n)+)", re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A code block, and what the document says it prints."""

    language: str
    code: str
    output: list[str]


def blocks_of(document: str) -> list[Block]:
    text = (ROOT / document).read_text() + "\n"
    found = [(m["language"], textwrap.dedent(m["code"]).strip()) for m in _BLOCK.finditer(text)]
    following = [*found[1:], ("", "")]
    return [
        Block(language, code, after_code.splitlines() if after == "text" else [])
        for (language, code), (after, after_code) in zip(found, following, strict=True)
    ]


def assert_printed(expected: list[str], printed: str) -> None:
    """Each expected line begins a printed one, in this order."""
    lines = iter(printed.splitlines())
    for line in expected:
        assert any(candidate.startswith(line) for candidate in lines), (
            f"{line!r} is not where it should be in:\n{printed}"
        )


def follow(command: str, expected: list[str], directory: Path) -> None:
    """Run a command that goes on for long until it has printed the last expected line."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=directory, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith(expected[-1]):
                break
        process.kill()
    assert_printed(expected, printed)


def run_shell(block: Block, server: ServerProcess, directory: Path) -> None:
    code = block.code.replace(SERVER, f"127.0.0.1:{server.port}")
    if code.startswith("rsync") and shutil.which("rsync") is None and not running_in_ci():
        return  # pytest's summary says so
    if "live=sse" in code:
        follow(code, block.output, directory)
        return
    (directory / ".curlrc").write_text("fail\nsilent\nshow-error\n")
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=directory,
        env=os.environ | {"CURL_HOME": str(directory), "PATH": _PATH},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{code}\n{run.stdout}{run.stderr}"
    assert_printed(block.output, run.stdout)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def use_application(process: subprocess.Popen[str], port: int) -> None:
    """Create and read a stream in an application that has just said that it runs."""
    url = f"http://127.0.0.1:{port}/streams/greetings"
    create = urllib.request.Request(url, data=b"hello", method="PUT")
    with urllib.request.urlopen(create) as created, urllib.request.urlopen(url) as read:
        assert created.status == 201
        assert read.read() == b"hello"
    process.send_signal(signal.SIGINT)


def run_python(block: Block, directory: Path) -> None:
    port = free_port()
    program = block.code.replace(f"port={APPLICATION_PORT}", f"port={port}, host='127.0.0.1'")
    command = [sys.executable, "-u", "-W", "error", "-c", program]
    with subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = ""
        if program != block.code:
            printed = process.stdout.readline()
            assert "Running on" in printed or "serving on" in printed, process.communicate()
            use_application(process, port)
        rest, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors == ""
    assert_printed(block.output, printed + rest)


def create(server: ServerProcess, path: str) -> None:
    """Create a stream that is in its files when this returns."""
    request = urllib.request.Request(server.url(path), data=b"hello", method="PUT")
    with urllib.request.urlopen(request) as created:
        assert created.status == 201
    assert server.stop() == 0
    server.start()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_blocks_of_a_document_do_what_it_says(
    document: str, start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    blocks = blocks_of(document)
    assert blocks
    if document in THERE_ALREADY:
        create(server, THERE_ALREADY[document])
    for block in blocks:
        match block.language:
            case "sh":
                run_shell(block, server, tmp_path)
            case "python":
                run_python(block, tmp_path)
            case "javascript" | "text":
                pass
            case other:
                pytest.fail(f"{document} has a block of {other!r}, which nobody runs")


def test_the_backup_that_the_readme_makes_is_a_data_directory(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server()
    shell = [block for block in blocks_of("README.rst") if block.language == "sh"]
    for block in shell:
        run_shell(block, server, tmp_path)
    backup = start_server(data_dir=tmp_path / "backup")

    with urllib.request.urlopen(backup.url("chat/room-1")) as read:
        content = read.read().decode()

    assert content.splitlines() == next(block.output for block in shell if block.output)


def test_the_readme_opens_with_two_commands_that_exist() -> None:
    text = (ROOT / "README.rst").read_text()
    commands = [
        shlex.split(line)[0] for line in re.findall(r"^    (scripts/.*)$", text, re.MULTILINE)
    ]

    assert commands[:2] == ["scripts/serve", "scripts/test"]
    for command in set(commands) | set(re.findall(r"``(scripts/[\w-]+)``", text)):
        assert os.access(ROOT / command, os.X_OK), command
    assert "exec scripts/test" in (ROOT / ".ci" / "run").read_text()


def test_the_browser_line_follows_the_stream_that_the_shell_follows() -> None:
    blocks = blocks_of("README.rst")
    (browser,) = (block.code for block in blocks if block.language == "javascript")
    url = re.findall(r'EventSource\("(.*?)"\)', browser)

    assert [url[0] in block.code for block in blocks if "curl -N" in block.code] == [True]
    assert 'addEventListener("data"' in browser


def test_the_readme_names_only_documents_that_exist() -> None:
    text = (ROOT / "README.rst").read_text()
    for name in re.findall(r"``(docs/[\w.-]+|\w+\.rst)``", text):
        assert (ROOT / name).is_file(), name


def statements_of(document: str) -> Iterator[tuple[str, str]]:
    """Each list item of a document, with the title of the section that it stands in."""
    title, lines = "", (ROOT / document).read_text().splitlines()
    for number, line in enumerate(lines):
        if number and line and set(line) <= {"=", "-"} and len(line) == len(lines[number - 1]):
            title = lines[number - 1]
        if re.match(r"(?:- |\d+\. )", line):
            rest = itertools.takewhile(lambda other: other.startswith(" "), lines[number + 1 :])
            yield title, "\n".join([line, *rest])


def test_every_statement_about_durability_names_a_test_that_exists() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").glob("**/test_*.py"))
    existing = set(re.findall(r"def (test_\w+)", tests))
    statements = list(statements_of("docs/durability.rst"))
    assert len(statements) > 30
    for section, statement in statements:
        names = re.findall(r":proof:`(\w+)`", statement)
        assert existing.issuperset(names), (set(names) - existing, statement)
        assert names or section in {"What we rely on", "What is not promised"}, statement


def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "-b", "html"]
    build = subprocess.run(
        [*command, "-d", str(tmp_path / "cache"), str(ROOT / "docs"), str(tmp_path / "html")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    pages = {path.stem for path in (tmp_path / "html").glob("*.html")}
    assert {path.stem for path in (ROOT / "docs").glob("*.rst")} <= pages

"""What the README and the documentation say is run: their shell and Python blocks, in order.

``docs/first-server.rst`` is run with the wheel, by ``tests/deploy/test_first_server.py``, and what
``docs/deployment.rst`` says of systemd by ``tests/deploy/test_booted.py``.

A ``sh`` block runs in a shell beside the data directory of a real server; one that ends with
``durable-streams serve`` starts another, which those behind it mean.  A ``python`` block runs
as a program of its own; one that listens on port 8080 is asked for an answer and then interrupted.
A block with a caption is written into a file of that name; it is run there if the document says
what it prints, else by a ``sh`` block behind it, by ``tests/test_embedding_page.py``, or by
``tests/test_security_page.py``.
A ``javascript`` block is run in a browser, by ``tests/browser``; a ``json`` block is what a test is
made of.
A ``text`` block is what the block before it printed, to the letter but for ``…``: a line of nothing
else stands for any lines, and within a line it stands for any text.
"""

from __future__ import annotations

import ast
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from durable_streams.maintenance.verify import verify
from durable_streams.wire import replies
from tests.documents import SERVER, blocks_of, is_cell
from tests.programs import free_port
from tools import access_tables, settings_tables
from tools.node import running_in_ci
from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from durable_streams.maintenance.findings import Finding
    from tests.conftest import StartServer
    from tests.documents import Block

DOCUMENTS: Final = [
    "README.rst",
    "docs/quickstart.rst",
    "docs/http.rst",
    "docs/library.rst",
    "docs/client.rst",
    "docs/command-line.rst",
    "docs/runs.rst",
    "docs/redis-streams.rst",
    "docs/embedding.rst",
    "docs/security.rst",
    "docs/maintenance.rst",
    "docs/backup.rst",
    "docs/metrics.rst",
]
THERE_ALREADY: Final = {"docs/backup.rst": "chat/room-1"}
"""The stream that a document takes for granted."""

APPLICATION_PORT: Final = "8080"
LEFT_OUT: Final = "…"
_HERE: Final = {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "XDG_CONFIG_HOME": os.devnull,  # nothing that whoever runs this has said of streams
    "STREAM_AUTH": "",
    "STREAM_URL": "",
}


def is_as_told(expected: list[str], printed: str) -> bool:
    """Whether the lines are those that a document tells; see the top of this module."""
    pattern = "".join(
        r"(?:.*\n)*"
        if line.strip() == LEFT_OUT
        else ".*".join(map(re.escape, line.split(LEFT_OUT))) + r"\n"
        for line in expected
    )
    lines = printed.rstrip().splitlines()
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def assert_printed(expected: list[str], printed: str) -> None:
    """A block without a text block behind it may print what it likes."""
    told = "\n".join(expected)
    assert not expected or is_as_told(expected, printed), f"told:\n{told}\nprinted:\n{printed}"


def follow(command: str, expected: list[str], directory: Path) -> None:
    """Run a command that goes on for long until it has printed what is expected, or ends."""
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"], cwd=directory, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if is_as_told(expected, printed):
                break
        process.kill()
    assert_printed(expected, printed)


def wait_for_files(data: Path) -> None:
    """Wait until everything is in the streams' files, as it is a moment after its answer."""
    found: list[Finding] = []
    verify(data, found.append)
    while any(finding.text.endswith("here only") for finding in found):
        found.clear()
        verify(data, found.append)


def run_shell(
    block: Block,
    server: ServerProcess,
    directory: Path,
    environment: Mapping[str, str] = _HERE,
) -> None:
    code = block.code.replace(SERVER, f"127.0.0.1:{server.port}")
    if "live=sse" in code:
        follow(code, block.output, directory)
        return
    if "durable-streams verify" in code:
        wait_for_files(server.data_dir)
    (directory / ".curlrc").write_text("fail\nsilent\nshow-error\n")
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=directory,
        env={**os.environ, "CURL_HOME": str(directory), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"{code}\n{run.stdout}{run.stderr}"
    assert_printed(block.output, run.stdout)


def run_shell_or_serve(
    block: Block, server: ServerProcess, directory: Path, start_server: StartServer
) -> ServerProcess:
    """Run a shell block; the server that the blocks behind it mean, if its last line is one."""
    before, _, last = block.code.rpartition("\n")
    if not last.startswith("durable-streams serve"):
        run_shell(block, server, directory)
        return server
    if before:
        run_shell(replace(block, code=before), server, directory)
    options = [
        str(directory / option) if (directory / option).is_file() else option
        for option in shlex.split(last)[2:]
    ]
    return start_server(*options, data_dir=directory / f"served-beside-{server.port}")


def write_file(block: Block, server: ServerProcess, directory: Path) -> None:
    code = block.code.replace(SERVER, f"127.0.0.1:{server.port}")
    (directory / block.name).write_text(f"{code}\n")


def has_rsync() -> bool:
    """Whether it is there; in CI it has to be."""
    return shutil.which("rsync") is not None or running_in_ci()


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
    what = [block.name] if block.name else ["-c", program]
    command = [sys.executable, "-u", "-W", "error", *what]
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
    left_out = [] if has_rsync() else [block for block in blocks if "rsync" in block.code]
    for block in blocks:
        if block in left_out:
            continue
        if block.name:
            if not is_cell(block):
                write_file(block, server, tmp_path)
            if is_cell(block) or not block.output:
                continue
        match block.language:
            case "sh":
                server = run_shell_or_serve(block, server, tmp_path, start_server)
            case "python":
                here = block.code.replace(SERVER, f"127.0.0.1:{server.port}")
                run_python(replace(block, code=here), tmp_path)
                if f"port={APPLICATION_PORT}" not in block.code:  # as people do who change a bit
                    run_python(replace(block, code=here, output=[]), tmp_path)
            case "javascript" | "json" | "text":
                pass
            case other:
                pytest.fail(f"{document} has a block of {other!r}, which nobody runs")
    if left_out:
        pytest.skip(f"NOT TESTED, rsync in {document}: it is missing; the rest was tested")


@pytest.mark.parametrize(
    ("told", "printed", "is_right"),
    [
        (["one", "two"], "one\ntwo\n", True),
        (["one", "two"], "one\r\ntwo\r\n\r\n", True),
        (["one", "", "two"], "one\n\ntwo\n", True),
        (["one"], "one and more\n", False),
        (["one"], "one\ntwo\n", False),
        (["two"], "one\ntwo\n", False),
        (["one", "two"], "one\n\ntwo\n", False),
        (["…", "two"], "one\nand a half\ntwo\n", True),
        (["one", "…"], "one\ntwo\nthree\n", True),
        (["one", "…", "three"], "one\ntwo\n", False),
        (['{"at":"…","to":1}'], '{"at":"now","to":1}\n', True),
        (['{"at":"…","to":1}'], '{"at":"now","to":2}\n', False),
        (["1.5"], "1x5\n", False),
    ],
)
def test_only_what_is_left_out_may_differ_from_what_is_told(
    told: list[str], printed: str, is_right: bool
) -> None:
    assert is_as_told(told, printed) is is_right


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


def test_the_browser_follows_the_stream_that_the_shell_follows() -> None:
    blocks = blocks_of("README.rst")
    (browser,) = (block.code for block in blocks if block.language == "javascript")
    (shell,) = (block.code for block in blocks if "curl -N" in block.code)

    assert re.findall(r'follow\("(.*?)"', browser) == re.findall(r"'(.*?)\?offset=-1", shell)


@pytest.mark.parametrize("document", ["README.rst", "docs/quickstart.rst", "docs/operations.rst"])
def test_a_document_that_tells_how_to_install_names_extras_that_exist(document: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"pip install '\.\[(\w+)\]'", (ROOT / document).read_text())
    assert extras
    assert set(extras) <= set(project["optional-dependencies"])


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


def first_cells(document: str) -> list[str]:
    """What the rows of a document's tables begin with."""
    return re.findall(r"^   \* - (.+)$", (ROOT / document).read_text(), re.MULTILINE)


def statuses_of_replies() -> set[int]:
    """The statuses that ``replies`` gives to what succeeds."""
    statuses = [
        node.args[0]
        for node in ast.walk(ast.parse(Path(replies.__file__).read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Reply"
    ]
    constants = [node for status in statuses for node in ast.walk(status)]
    return {
        node.value
        for node in constants
        if isinstance(node, ast.Constant) and isinstance(node.value, int)
    }


def test_every_status_of_an_error_is_in_the_table_of_errors_and_no_other() -> None:
    told = [cell for cell in first_cells("docs/http.rst") if cell.isdecimal()]
    assert told == sorted(str(status) for status in set(replies.STATUS.values()))


def test_every_status_of_a_success_is_in_the_table_of_methods_and_no_other() -> None:
    text = (ROOT / "docs" / "http.rst").read_text()
    table = text[text.index("* - Method") : text.index("\nCreate\n")]
    told = {int(status) for status in re.findall(r"\b[1-5]\d\d\b", table)}
    assert told == statuses_of_replies() == {200, 201, 204, 304}


def test_the_tables_of_settings_say_what_the_settings_are() -> None:
    """``python -m tools.settings_tables`` renews them."""
    assert settings_tables.in_document() == settings_tables.tables()


def test_the_tables_of_who_may_ask_for_what_say_what_decides_it() -> None:
    """``python -m tools.access_tables`` renews them."""
    assert access_tables.in_document() == access_tables.tables()


def test_each_cause_of_a_failing_disk_has_its_tests() -> None:
    text = (ROOT / "docs" / "durability.rst").read_text()
    causes = [cell for cell in first_cells("docs/durability.rst") if cell != "Cause"]
    causes = causes[causes.index("disk full, bytes or inodes, or a quota") :]
    tested = text[text.index("The tests of each row:") : text.index("Beyond the table:")]
    assert re.findall(r"^- (.+):$", tested, re.MULTILINE) == causes


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

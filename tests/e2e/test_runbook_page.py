"""What docs/runbook.rst tells an operator to do works as it stands there, from top to bottom."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.documents import blocks_of, named_blocks_of
from tests.test_documents import assert_printed

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT: Final = "docs/runbook.rst"
PORT: Final = "4437"
_END: Final = "-- the end of block"
_PATH: Final = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.fixture(autouse=True)
def hangups_are_not_ignored() -> Iterator[None]:
    """The tests may run under nohup, which the page's server would inherit."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.mark.skipif(shutil.which("jq") is None, reason="the page asks logs by jq")
def test_all_that_the_page_tells_to_do_is_done_and_says_what_it_says(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "streams.toml").write_text(named_blocks_of(DOCUMENT)["streams.toml"].code)
    blocks = [block for block in blocks_of(DOCUMENT) if block.language == "sh"]
    script = f"\necho; echo '{_END}'\n".join(block.code for block in blocks)
    environment = os.environ | {"PATH": _PATH, "DURABLE_STREAMS_PORT": port}
    at_the_end = "trap 'kill \"$(cat streams.pid)\"; wait' EXIT\n"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", at_the_end + script.replace(PORT, port)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.split(_END)
    assert len(said) == len(blocks)
    for block, printed in zip(blocks, said, strict=True):
        assert_printed(block.output, printed.strip())

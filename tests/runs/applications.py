"""The programs of docs/runs.rst, under uvicorn, at a pace for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.asgi.servers import AsgiServer
from tests.documents import named_blocks_of
from tools.server_process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = "docs/runs.rst"
ANSWER: Final = "".join(f"word-{number} " for number in range(50))


def serve(directory: Path, name: str, app: str, pace_s: float = 0.01) -> AsgiServer:
    """Start a program of the page; ``pace_s``: a word of its model.

    Who asks it for something "endless" gets that.
    """
    code = named_blocks_of(PAGE)[name].code
    for told, here in (
        ("asyncio.sleep(0.1)", f"asyncio.sleep({pace_s})"),
        ("range(50)", "range(10**9 if 'endless' in str(locals()) else 50)"),
    ):
        assert told in code
        code = code.replace(told, here)
    program = directory / name
    program.write_text(code + "\n")
    log, unused = directory / f"{name}.log", directory / "unused"
    ours = {"PYTHONPATH": str(ROOT)}
    return AsgiServer("uvicorn", app, unused, log, program=program, environment=ours)


def end(server: AsgiServer) -> None:
    """End it as it is ended when it is deployed again; nothing went wrong."""
    server.stop()
    log = server.log.read_text()
    assert "Application shutdown complete" in log, log
    assert "ERROR" not in log, log

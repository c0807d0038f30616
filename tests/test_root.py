"""``import durable_streams``: all names are there, and what they need comes when they are used."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

import durable_streams
from tools.server_process import ROOT

HEAVY: Final = {
    "aiofiles",
    "aiohttp",
    "argparse",
    "asyncio",
    "concurrent.futures",
    "fcntl",
    "logging",
    "multiprocessing",
    "resource",
    "socket",
    "ssl",
    "tempfile",
    "uvloop",
}
"""What a program that only wants a name or an error has no use for."""


def run(code: str) -> set[str]:
    """The words that a program prints."""
    ended = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    return set(ended.stdout.split())


def test_importing_it_imports_nothing_heavy() -> None:
    already = run("print(*sys.modules)")
    loaded = run("import durable_streams\nprint(*sys.modules)") - already
    assert "durable_streams.model.errors" in loaded
    assert loaded & HEAVY == set()
    ours = {name for name in loaded if name.startswith("durable_streams.")}
    assert {name.split(".")[1] for name in ours} <= {
        "errors",
        "model",
        "namesake",
        "settings",
        "version",
    }


def test_every_name_resolves_however_it_is_imported() -> None:
    names = set(durable_streams.__all__)
    assert run("from durable_streams import *\nprint(*globals())") >= names
    assert (
        run("import durable_streams as d\nprint(*[n for n in d.__all__ if hasattr(d, n)])") == names
    )
    for name in durable_streams._LATER:
        assert run(f"from durable_streams import {name}\nprint({name!r})") == {name}


def test_the_errors_are_an_attribute_of_the_root_as_well() -> None:
    assert run("import durable_streams as d\nprint(d.errors.StreamGone.__name__)") == {"StreamGone"}


def test_every_name_is_seen_before_it_is_used_and_is_that_of_its_home() -> None:
    assert set(durable_streams.__all__) <= run(
        "import durable_streams\nprint(*dir(durable_streams))"
    )
    assert durable_streams.open is durable_streams.open_streams


def test_another_name_is_refused_as_any_module_refuses_it() -> None:
    with pytest.raises(AttributeError, match="module 'durable_streams' has no attribute 'opne'"):
        durable_streams.opne  # type: ignore[attr-defined]  # noqa: B018

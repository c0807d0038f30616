"""The names of the reference server's files, and the paths that they tell."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

import pytest

from durable_streams.importing.source_names import names_in

if TYPE_CHECKING:
    from pathlib import Path


def name_of(path: str) -> str:
    return urlsafe_b64encode(path.encode()).decode().rstrip("=") + "~mi1k0abc~0badcafe.log"


def test_paths_are_in_the_names(tmp_path: Path) -> None:
    (tmp_path / "streams").mkdir()
    for path in ("/v1/stream/b", "/v1/stream/a/%C3%A4", "/other/c", "/v1/stream/"):
        (tmp_path / "streams" / name_of(path)).touch()
    for name in ("readme.txt", "x" * 180 + "~0123456789abcdef~a~b.log", "!~a~b.log", "QQ.log"):
        (tmp_path / "streams" / name).touch()
    paths, unknown = names_in(tmp_path, "/v1/stream")
    assert paths == ["a/ä", "b"]
    assert sorted(unknown) == sorted(
        [
            "x" * 180 + "~0123456789abcdef~a~b.log",
            "!~a~b.log",
            "QQ.log",
            name_of("/other/c"),
            name_of("/v1/stream/"),
        ]
    )
    assert names_in(tmp_path / "streams", "/v1/stream") == (paths, unknown)


def test_what_is_no_directory_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent"):
        names_in(tmp_path / "absent", "/v1/stream")

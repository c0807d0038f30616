"""A file that counts while a server runs: what is found in it, and what goes wrong."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

import pytest

from durable_streams.access.followed_file import FollowedFile
from durable_streams.access.small_files import Edited, FileProblem

if TYPE_CHECKING:
    from pathlib import Path


def parse(path: Path, content: bytes) -> str:
    """A text, but for two that are none."""
    text = content.decode()
    if text == "bad":
        raise FileProblem(f"{path} is bad")
    if text == "bug":
        raise RuntimeError("in whoever reads it")
    return text


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_text("one")
    return path


async def followed(path: Path, interval_s: float = 0.001) -> FollowedFile[str]:
    return await asyncio.to_thread(
        lambda: FollowedFile("file", path, parse, max_bytes=10, interval_s=interval_s)
    )


async def test_what_two_looks_have_found_counts_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "durable_streams")
    file = await followed(path, interval_s=3600)  # no looks but those here
    changed: list[str] = []
    async with file.running(lambda: changed.append(file.value)):
        path.write_text("two")
        await file.look()
        assert (file.value, changed) == ("one", [])
        for _ in range(3):
            await file.look()
        assert (file.value, changed) == ("two", ["two"])
    assert not caplog.records


async def test_a_look_that_is_asked_for_counts_at_once_and_says_what_became_of_it(
    path: Path,
) -> None:
    file = await followed(path, interval_s=3600)
    assert await file.look_now() == "as it was"
    await asyncio.to_thread(path.write_text, "new")
    assert await file.look_now() == "changed"
    assert file.value == "new"
    await asyncio.to_thread(path.unlink)
    assert (await file.look_now()).startswith(f"as it was before: {path}")
    assert file.value == "new"
    await asyncio.to_thread(path.write_text, "good")
    assert await file.look_now() == "changed"


async def test_it_is_followed_while_the_block_runs_and_no_longer(path: Path) -> None:
    file = await followed(path)
    told = asyncio.Event()
    async with file.running(told.set):
        path.write_text("two")
        await told.wait()
    told.clear()
    path.write_text("three")
    await file.look()
    await file.look()
    assert file.value == "three"
    assert not told.is_set()


@pytest.mark.parametrize(
    ("content", "problem"), [("bad", "is bad"), ("bug", "because of a bug"), ("x" * 11, "larger")]
)
async def test_what_is_no_good_leaves_what_was_until_it_is_good_again(
    path: Path, content: str, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "durable_streams")
    file = await followed(path)
    told = asyncio.Event()
    async with file.running(told.set):
        path.write_text(content)
        while file.problem is None:
            await asyncio.sleep(0)
        assert problem in file.problem
        assert file.value == "one"
        path.write_text("two")
        await told.wait()
    assert file.value == "two"
    assert not file.problem
    assert caplog.records[-1].getMessage().startswith("the file is good again")


async def test_the_same_good_content_counts_again_after_a_bad_one(path: Path) -> None:
    file = await followed(path)
    for content in ("bad", "one"):
        path.write_text(content)
        await file.look()
        await file.look()
        assert file.value == "one"
        assert (file.problem is None) == (content == "one")


async def test_a_link_that_is_led_elsewhere_is_followed(tmp_path: Path) -> None:
    """As Kubernetes changes what it mounts: all files at once, by a link to another directory."""
    for name, text in (("first", "one"), ("second", "two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(text)
    (tmp_path / "..data").symlink_to("first")
    (tmp_path / "file").symlink_to("..data/file")
    file = await followed(tmp_path / "file")
    (tmp_path / "..data_tmp").symlink_to("second")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    await file.look()
    await file.look()
    assert file.value == "two"


async def test_an_edit_counts_at_once_and_alone(path: Path) -> None:
    file = await followed(path)

    def edit() -> Edited[str, int]:
        path.write_text("edited")
        return Edited(b"edited", "edited", 7)

    told, _ = await asyncio.gather(file.edit(edit), file.look())
    assert (told, file.value) == (7, "edited")
    await file.look()
    assert file.value == "edited"


async def test_what_others_change_counts_while_an_edit_waits_for_its_turn(path: Path) -> None:
    """A token that is taken out of the file must not go on because somebody holds its lock."""
    file = await followed(path)
    begun, goes_on = asyncio.Event(), threading.Event()
    tell = asyncio.get_running_loop().call_soon_threadsafe

    def edit() -> Edited[str, int]:
        tell(begun.set)
        goes_on.wait()
        return Edited(b"edited", "edited", 7)

    editing = asyncio.create_task(file.edit(edit))
    await begun.wait()
    try:
        path.write_text("two")
        async with asyncio.timeout(60):
            await file.look()
            await file.look()
        assert file.value == "two"
    finally:
        goes_on.set()
        assert await editing == 7


@pytest.mark.parametrize("old", ["two", "bad"])
async def test_what_an_edit_has_made_is_newer_than_what_was_found_meanwhile(
    path: Path, old: str
) -> None:
    begun, goes_on = asyncio.Event(), threading.Event()
    tell = asyncio.get_running_loop().call_soon_threadsafe

    def parse_late(path: Path, content: bytes) -> str:
        if content == old.encode():
            tell(begun.set)
            goes_on.wait()
        return parse(path, content)

    file = await asyncio.to_thread(lambda: FollowedFile("file", path, parse_late, max_bytes=10))
    path.write_text(old)
    await file.look()
    looking = asyncio.create_task(file.look())
    await begun.wait()
    try:
        await file.edit(lambda: Edited(b"edited", "edited", 7))
    finally:
        goes_on.set()
        await looking
    assert (file.value, file.problem) == ("edited", None)


async def test_an_edit_that_fails_changes_nothing(path: Path) -> None:
    file = await followed(path)

    def edit() -> Edited[str, int]:
        raise FileProblem("no")

    with pytest.raises(FileProblem):
        await file.edit(edit)
    assert file.value == "one"
    assert await file.edit(lambda: Edited(b"two", "two", 1)) == 1

"""The life of a stream: what the table allows, and that the store goes by it."""

import asyncio
import errno
from pathlib import Path

import pytest

from durable_streams.filestore.store import FileStore
from durable_streams.filestore.streams import life
from durable_streams.filestore.streams.life import RULES, TRANSITIONS, Event, Found, Life
from durable_streams.filestore.streams.stream import Stream
from durable_streams.model.commands import Append, Create, ForkRequest
from durable_streams.model.errors import (
    DiskFull,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.model.offsets import Start
from durable_streams.settings import Settings
from tests.filestore.files.staged_disk import StagedDisk
from tools.inside import loaded

BYTES = "application/octet-stream"
S = ("s",)


def test_every_state_is_drawn_and_has_its_rules_and_its_transitions() -> None:
    assert set(TRANSITIONS) == set(RULES) == set(Life)
    assert life.__doc__ is not None
    for state in Life:
        assert state.name in life.__doc__


def test_every_state_can_be_reached() -> None:
    reached, found = set(), {Life.COMING}
    while found:
        reached |= found
        found = {after for state in found for after in TRANSITIONS[state].values()} - reached
    assert reached == set(Life)


@pytest.mark.parametrize("decision", [Event.SOFT_DELETE, Event.DELETE])
def test_a_decision_that_fails_leaves_everything_as_it_was(decision: Event) -> None:
    decided = [state for state in Life if decision in TRANSITIONS[state]]
    assert decided
    for state in decided:
        on_its_way = TRANSITIONS[state][decision]
        assert set(TRANSITIONS[on_its_way]) == {Event.DURABLE, Event.FAILED}
        assert TRANSITIONS[on_its_way][Event.FAILED] is state


def test_readers_go_by_what_is_durable_so_a_decision_changes_nothing_for_them() -> None:
    for state in Life:
        for decision in (Event.SOFT_DELETE, Event.DELETE):
            after = TRANSITIONS[state].get(decision)
            assert after is None or RULES[after].reads is RULES[state].reads


def test_writers_go_by_what_is_decided_so_its_becoming_durable_changes_nothing_for_them() -> None:
    for state in (Life.GOING_SOFTLY, Life.GOING):
        assert RULES[TRANSITIONS[state][Event.DURABLE]].appends is RULES[state].appends


def test_no_state_comes_back_that_has_ended_durably() -> None:
    for state in (Life.GONE, Life.UNLINKED, Life.UNBORN):
        for after in TRANSITIONS[state].values():
            assert RULES[after].found is Found.NOTHING


def test_who_looks_for_a_stream_waits_for_what_is_on_its_way_but_a_soft_deletion() -> None:
    # Its files stay, so that others may ask what is at the path; writers get their answer late.
    for state in Life:
        is_on_its_way = Event.FAILED in TRANSITIONS[state] and state is not Life.GOING_SOFTLY
        assert (RULES[state].found is Found.WAIT) == is_on_its_way


# -- the store goes by it ------------------------------------------------------------------


async def append(engine: FileStore) -> object:
    return await engine.append(Append(S, BYTES), b"more")


def state_of(stream: Stream | None) -> Life:
    assert stream is not None
    return stream.state


async def outcome(task: asyncio.Task[object]) -> object:
    try:
        return await task
    except StreamError as error:
        return type(error)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("has_fork", [False, True])
async def test_what_is_asked_while_a_deletion_is_on_its_way_is_answered_by_what_becomes_of_it(
    tmp_path: Path, has_fork: bool, fails: bool
) -> None:
    disk = StagedDisk()
    engine = await FileStore.at(tmp_path / "data", Settings(), disk)
    await engine.create(Create(S, BYTES), b"one")
    if has_fork:
        await engine.create(Create(("fork",), fork=ForkRequest(S)), b"")
    stream = await engine.open(S)
    before = loaded(engine, S)
    assert state_of(before) is Life.LIVE
    gate = disk.hold("pwrite", "data/journal")
    deleting = asyncio.create_task(engine.delete(S))
    await asyncio.to_thread(gate.reached.wait)
    assert state_of(before) is (Life.GOING_SOFTLY if has_fork else Life.GOING)
    assert await engine.bytes_of(await engine.read(stream, Start.BEGINNING)) == b"one"
    appending = asyncio.create_task(append(engine))
    creating = asyncio.create_task(engine.create(Create(S, BYTES), b"two"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not appending.done()
    assert not creating.done()
    if fails:
        disk.fail("pwrite", errno.ENOSPC, "data/journal", times=1)
    gate.open()
    ends = [await outcome(task) for task in (deleting, appending, creating)]
    if fails:
        assert ends[0] is DiskFull
        assert state_of(before) is Life.LIVE
        content = await engine.bytes_of(await engine.read(stream, Start.BEGINNING))
        assert content == (b"one" if has_fork else b"onemore")
    else:
        told = StreamGone if has_fork else StreamNotFound
        assert ends[:2] == [None, told]
        with pytest.raises(told):
            await engine.read(stream, Start.BEGINNING)
        if has_fork:
            assert ends[2] is StreamExists
            assert state_of(before) is Life.KEPT_FOR_FORKS
        else:
            assert state_of(before) in {Life.GONE, Life.UNLINKED}
    await engine.close()

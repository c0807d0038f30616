"""Who may write now, and in which order: a line on a loop whose time is simulated."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, TypeVar

import pytest

from durable_streams.filestore.pipeline.admission import CALLED_TOGETHER, COME_BACK_S, Admission
from durable_streams.model.errors import DiskFull, Draining, Overloaded, StorageFailed
from tools.simulation.scheduler import Scheduler, SimulatedLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_T = TypeVar("_T")

HELD_UP_S = 5.0


@dataclass
class Files:
    """Files that lag, or do not."""

    held_up: bool = True
    moved: float = 0.0
    admitted: list[object] = field(default_factory=list)


def run(work: Callable[[], Coroutine[None, None, _T]]) -> _T:
    loop = SimulatedLoop(Scheduler(Random(0)))
    try:
        return loop.run_until_complete(work())
    finally:
        loop.close()


def line(files: Files, held_up_s: float = HELD_UP_S) -> Admission:
    return Admission(
        asyncio.get_running_loop(),
        held_up_s,
        is_held_up=lambda: files.held_up,
        last_moved=lambda: files.moved,
    )


def now() -> float:
    return asyncio.get_running_loop().time()


async def refused_at(admission: Admission, arrives: float = 0.0) -> float:
    """When a writer that arrives at some time is refused."""
    await asyncio.sleep(arrives)
    with pytest.raises(Overloaded) as refusal:
        await admission.admit()
    assert refusal.value.retry_after_s == COME_BACK_S
    return now()


def test_who_came_together_is_refused_together_when_nothing_moves() -> None:
    async def work() -> list[float]:
        admission = line(Files())
        return await asyncio.gather(*(refused_at(admission) for _ in range(3)))

    assert run(work) == pytest.approx([HELD_UP_S] * 3, abs=0.01)


def test_who_came_later_has_the_same_time() -> None:
    async def work() -> list[float]:
        admission = line(Files())
        return await asyncio.gather(*(refused_at(admission, at) for at in (0.0, 2.0, 4.0)))

    expected = [HELD_UP_S, 2.0 + HELD_UP_S, 4.0 + HELD_UP_S]
    assert run(work) == pytest.approx(expected, abs=0.01)


def test_nobody_is_refused_while_anything_moves() -> None:
    async def work() -> list[float]:
        files = Files()
        admission = line(files)
        waiting = [asyncio.create_task(refused_at(admission)) for _ in range(3)]
        for second in range(1, 60):  # nothing calls them: they look themselves
            await asyncio.sleep(1.0)
            files.moved = float(second)
        return await asyncio.gather(*waiting)

    assert run(work) == pytest.approx([59.0 + HELD_UP_S] * 3, abs=0.01)


async def admitted(admission: Admission, files: Files, name: object) -> None:
    await admission.admit()
    files.admitted.append(name)


def test_writers_are_admitted_in_the_order_in_which_they_came() -> None:
    number = 3 * CALLED_TOGETHER + 1

    async def work() -> list[object]:
        files = Files()
        admission = line(files)
        waiting = [asyncio.create_task(admitted(admission, files, n)) for n in range(number)]
        await asyncio.sleep(1.0)
        assert admission.waiting == number
        files.held_up = False
        admission.look()
        assert not admission.is_open()  # who comes now passes nobody
        waiting.append(asyncio.create_task(admitted(admission, files, number)))
        await asyncio.gather(*waiting)
        assert admission.is_open()
        assert admission.waiting == 0
        return files.admitted

    assert run(work) == list(range(number + 1))


def test_who_is_called_and_held_up_again_keeps_the_place() -> None:
    async def work() -> list[object]:
        files = Files()
        admission = line(files)

        async def write(name: int) -> None:
            await admitted(admission, files, name)
            files.held_up = len(files.admitted) % 2 == 0  # two fill the queue

        waiting = [asyncio.create_task(write(n)) for n in range(7)]
        while not all(task.done() for task in waiting):
            await asyncio.sleep(1.0)
            files.held_up, files.moved = False, now()
            admission.look()
        return files.admitted

    assert run(work) == list(range(7))


def test_who_leaves_keeps_nobody_waiting() -> None:
    async def work() -> list[object]:
        files = Files()
        admission = line(files)
        waiting = [asyncio.create_task(admitted(admission, files, n)) for n in range(6)]
        await asyncio.sleep(1.0)
        waiting[0].cancel()
        waiting[3].cancel()
        files.held_up = False
        admission.look()
        waiting[1].cancel()  # called already
        await asyncio.wait(waiting)
        assert admission.waiting == 0
        return files.admitted

    assert run(work) == [2, 4, 5]


def test_the_next_in_line_is_refused_in_time_when_the_first_left() -> None:
    async def work() -> float:
        admission = line(Files())
        first = asyncio.create_task(admission.admit())
        second = asyncio.create_task(refused_at(admission))
        await asyncio.sleep(1.0)
        first.cancel()
        return await second

    assert run(work) == pytest.approx(HELD_UP_S, abs=0.01)


def test_a_writer_may_wait_for_as_long_as_it_takes() -> None:
    async def work() -> float:
        files = Files()
        admission = line(files, math.inf)
        waiting = asyncio.create_task(admission.admit())
        await asyncio.sleep(86_400.0)
        files.held_up = False
        admission.look()
        await waiting
        return now()

    assert run(work) == pytest.approx(86_400.0)


def test_ten_thousand_who_wait_have_one_timer() -> None:
    async def work() -> int:
        admission = line(Files())
        waiting = [asyncio.create_task(admission.admit()) for _ in range(10_000)]
        await asyncio.sleep(1.0)
        timers = len(asyncio.get_running_loop()._scheduled)  # type: ignore[attr-defined]
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return timers

    assert run(work) == 1


@pytest.mark.parametrize("why", ["fault", "drain", "full"])
def test_everybody_in_the_line_is_told_at_once_that_nothing_is_taken(why: str) -> None:
    async def work() -> set[type]:
        admission = line(Files())
        waiting = [asyncio.create_task(admission.admit()) for _ in range(100)]
        deletion = asyncio.create_task(admission.admit(frees=True))
        await asyncio.sleep(1.0)
        match why:
            case "fault":
                admission.set_fault(StorageFailed("a sync failed"))
            case "drain":
                admission.drain()
            case _:
                admission.set_full(DiskFull("full"))
        ends = await asyncio.gather(*waiting, deletion, return_exceptions=True)
        assert now() == pytest.approx(1.0)
        return {type(end) for end in ends}

    none = type(None)
    expected = {"fault": {StorageFailed}, "drain": {Draining}, "full": {DiskFull, none}}
    assert run(work) == expected[why]

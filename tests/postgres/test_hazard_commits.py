"""What ends a commit's wait for the standbys, and what waits: facts that the store is built on."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.postgres.scene import INSERT, Scene, staged
from tests.postgres.sessions import until_gone, until_it_waits
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.postgres.conftest import Database
    from tests.postgres.sessions import Session

    End = Callable[[Scene, Session, asyncio.Future[Any]], Awaitable[object]]

RELEASED: Final = "SyncRepWaitForLSN"
"""The server's function that says when a commit did not wait to its end."""


@pytest.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with staged(database) as made:
        yield made


async def cancel_the_task(_scene: Scene, _session: Session, commit: asyncio.Future[Any]) -> None:
    commit.cancel()


async def close(scene: Scene, session: Session, _commit: asyncio.Future[Any]) -> None:
    scene.begin(session.close(timeout=5))


async def cancel_the_backend(scene: Scene, session: Session, _commit: asyncio.Future[Any]) -> None:
    await scene.onlooker.execute("select pg_cancel_backend($1)", session.get_server_pid())


async def terminate_the_backend(
    scene: Scene, session: Session, _commit: asyncio.Future[Any]
) -> None:
    await scene.onlooker.execute("select pg_terminate_backend($1)", session.get_server_pid())


ENDS: Final = (cancel_the_task, close, cancel_the_backend, terminate_the_backend)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_hazard_whatever_ends_the_wait_shows_a_commit_that_no_standby_has(
    scene: Scene, end: End
) -> None:
    session = await scene.session()
    number = scene.number
    commit = await scene.waiting(session, INSERT, number)
    assert not await scene.is_there(number)
    await end(scene, session, commit)
    await scene.until_there(number)  # and the standbys stand still


async def test_hazard_a_timeout_of_the_driver_is_such_an_end(scene: Scene) -> None:
    session = await scene.session()
    number = scene.number
    await session.fetchval("select 1")
    scene.pause_standbys()
    with pytest.raises(TimeoutError):
        await session.execute(INSERT, number, timeout=0.2)
    await scene.until_there(number)


@pytest.mark.parametrize("level", ["notice", "error"])
async def test_a_commit_that_was_released_is_a_success_with_a_notice_if_notices_are_sent(
    scene: Scene, level: str
) -> None:
    session = await scene.session({"client_min_messages": level})
    heard: list[object] = []
    session.add_log_listener(lambda _, message: heard.append(message.server_source_function))
    commit = await scene.waiting(session, INSERT, scene.number)
    await scene.onlooker.execute("select pg_cancel_backend($1)", session.get_server_pid())
    assert await commit == "INSERT 0 1"
    assert heard == ([RELEASED] if level == "notice" else [])


@pytest.mark.parametrize("interval", ["0", "1ms"])
async def test_a_socket_that_is_closed_ends_no_wait(scene: Scene, interval: str) -> None:
    """``terminate()``, whether the server looks after its clients or not."""
    session = await scene.session({"client_connection_check_interval": interval})
    pid, number = session.get_server_pid(), scene.number
    await scene.waiting(session, INSERT, number)
    session.terminate()
    await until_it_waits(scene.cluster.primary, pid)
    assert not await scene.is_there(number)
    scene.resume_standbys()
    await scene.until_there(number)


@pytest.mark.parametrize("begin", ["select 1", "begin"])
async def test_timeouts_of_the_server_end_no_wait(scene: Scene, begin: str) -> None:
    """Neither that of a statement nor that of a ``commit``; longer than the rest of it takes."""
    limits = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    session = await scene.session(dict.fromkeys(limits, "500ms"))
    number = scene.number
    await session.execute(begin)
    if begin == "begin":
        await session.execute(INSERT, number)
        commit = await scene.waiting(session, "commit")
    else:
        commit = await scene.waiting(session, INSERT, number)
    await until_it_waits(scene.cluster.primary, session.get_server_pid(), longer_than="500ms")
    assert not await scene.is_there(number)
    scene.resume_standbys()
    await commit
    assert await scene.is_there(number)


async def test_a_shielded_commit_outlives_the_request_that_began_it(scene: Scene) -> None:
    session = await scene.session()
    number = scene.number
    commit = await scene.waiting(session, INSERT, number)

    async def ask() -> None:
        await asyncio.shield(commit)

    request = scene.begin(ask())
    await asyncio.sleep(0)
    request.cancel()
    await asyncio.wait({request})
    assert request.cancelled()
    await until_it_waits(scene.cluster.primary, session.get_server_pid())
    assert not await scene.is_there(number)
    scene.resume_standbys()
    assert await commit == "INSERT 0 1"


NODE: Final = Path(__file__).parent / "waiting_node.py"


async def ended(scene: Scene, how: str, by: signal.Signals) -> tuple[int, int]:
    """Have a process end whose commit waits: the number of its row, and the session's process."""
    number = scene.number
    scene.pause_standbys()
    told = [scene.cluster.primary.port, scene.database.name, number, how]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, NODE, json.dumps(told)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    pid = int(await process.stdout.readline())
    await until_it_waits(scene.cluster.primary, pid)
    process.send_signal(by)
    await process.wait()
    return number, pid


async def test_hazard_the_end_of_a_program_cancels_what_was_shielded(scene: Scene) -> None:
    number, _ = await ended(scene, "leaves", signal.SIGINT)
    await scene.until_there(number)


@pytest.mark.parametrize(("how", "by"), [("terminates", signal.SIGINT), ("leaves", signal.SIGKILL)])
async def test_a_program_that_closes_its_socket_first_or_is_killed_cancels_nothing(
    scene: Scene, how: str, by: signal.Signals
) -> None:
    number, pid = await ended(scene, how, by)
    await until_it_waits(scene.cluster.primary, pid)
    assert not await scene.is_there(number)
    scene.resume_standbys()
    await until_gone(scene.cluster.primary, pid)
    assert await scene.is_there(number)


BARRIERS: Final = {
    "an update of one row": "update things set name = 'moved' where id = 1",
    "a message": "select pg_logical_emit_message(true, '', '')",
    "a row lock": "select from things where id = 1 for no key update",
}
NO_BARRIERS: Final = {
    "a query": "select 1",
    "a number of a transaction": "select pg_current_xact_id()",
    "an update of no row": "update things set name = 'moved' where id = -1",
    "a compare-and-set that lost": "update things set version = 9 where id = 1 and version = 77",
    "a message that is no part of the transaction": "select pg_logical_emit_message(false, '', '')",
}


@pytest.mark.parametrize("statement", BARRIERS.values(), ids=BARRIERS)
async def test_what_writes_waits_for_a_standby(scene: Scene, statement: str) -> None:
    assert await scene.thing() == 1
    session = await scene.session()
    barrier = await scene.waiting(session, statement)
    assert not barrier.done()
    scene.resume_standbys()
    await barrier


@pytest.mark.parametrize("statement", NO_BARRIERS.values(), ids=NO_BARRIERS)
async def test_hazard_what_writes_nothing_waits_for_nobody(scene: Scene, statement: str) -> None:
    assert await scene.thing() == 1
    session = await scene.session()
    scene.pause_standbys()
    await session.execute(statement)


async def test_a_message_needs_no_privileges(scene: Scene) -> None:
    await scene.onlooker.execute("create role plain login")
    try:
        session = await scene.session({"role": "plain"})
        barrier = await scene.waiting(session, BARRIERS["a message"])
        scene.resume_standbys()
        await barrier
    finally:
        scene.cluster.mend()
        await scene.onlooker.execute("drop role plain")


async def test_hazard_a_primary_that_restarts_shows_what_no_standby_has(scene: Scene) -> None:
    session = await scene.session()
    number = scene.number
    await scene.waiting(session, INSERT, number)
    assert not await scene.is_there(number)
    scene.cluster.primary.restart(signal.SIGKILL)
    onlooker = await scene.session()
    assert await onlooker.fetchval("select count(*) from things where id = $1", number) == 1
    barrier = scene.begin(onlooker.execute(BARRIERS["a message"]))
    await until_it_waits(scene.cluster.primary, onlooker.get_server_pid())
    scene.resume_standbys()
    await barrier

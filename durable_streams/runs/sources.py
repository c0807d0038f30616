"""Where a run's items come from: whatever gives some, opened and closed again.

A function is called first, so that nothing is begun for a run that exists already.  Then a
coroutine is awaited, a context manager entered, and what there is by then is gone through: an
asynchronous iterator, an iterator (in a thread, as its steps block), a result of pydantic-ai
(``stream_text``), or one value.
"""

from __future__ import annotations

import asyncio
import inspect
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

Source: TypeAlias = Any
"""Whatever gives items."""

_NO_MORE: Final = object()


async def items_of(source: Source) -> AsyncGenerator[Any, None]:
    """All items of a source; closing this closes the source."""
    if callable(source) and not (hasattr(source, "__aiter__") or hasattr(source, "__aenter__")):
        source = source()
    if inspect.isawaitable(source):
        source = await source
    if hasattr(source, "__aiter__"):
        async for item in _each(source):
            yield item
    elif hasattr(source, "stream_text"):
        async for item in _each(source.stream_text(delta=True)):
            yield item
    elif isinstance(source, AbstractAsyncContextManager) or hasattr(source, "__aenter__"):
        async with source as entered:
            async for item in _each(items_of(entered)):
                yield item
    elif hasattr(source, "__next__"):
        async for item in _each(_in_threads(source)):
            yield item
    elif source is not None:
        yield source


async def _each(source: Source) -> AsyncGenerator[Any, None]:
    """The items of an asynchronous iterator, which is closed at the end, however it is called."""
    iterator = aiter(source)
    try:
        async for item in iterator:
            yield item
    finally:
        for holder in (iterator, source):
            close = getattr(holder, "aclose", None) or getattr(holder, "close", None)
            if close is not None:
                closing = close()
                if inspect.isawaitable(closing):
                    await closing
                break


async def _in_threads(source: Iterator[Any]) -> AsyncGenerator[Any, None]:
    while (item := await asyncio.to_thread(next, source, _NO_MORE)) is not _NO_MORE:
        yield item


def drop(source: Source) -> None:
    """Let go of a source that is not to be used: a coroutine wants to be told."""
    if inspect.iscoroutine(source):
        source.close()

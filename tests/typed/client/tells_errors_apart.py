"""A service that answers what went wrong."""

from __future__ import annotations

from durable_streams import (
    ContentTypeMismatch,
    Forbidden,
    RemoteStreams,
    StreamClosed,
    StreamNotFound,
    TooManyRequests,
    Unauthenticated,
    UnexpectedAnswer,
    Unreachable,
)


async def store(streams: RemoteStreams, order: dict[str, object]) -> tuple[int, str]:
    try:
        done = await streams.append_json("orders", order)
    except StreamNotFound as error:
        # by mistake: `return 404, error.stream`
        return 404, error.path
    except (StreamClosed, ContentTypeMismatch) as error:
        return 409, str(error)
    except (Unauthenticated, Forbidden):
        return 403, ""
    except TooManyRequests as error:
        # by mistake: `return 429, error.retry_after_s`
        return 429, str(error.retry_after_s)
    except (Unreachable, UnexpectedAnswer):
        return 503, ""
    return 200, done.next_offset

"""The HTTP layer: requests in, answers out; everything in between is the store's.

``exchange`` decides what is asked for and describes the answer, and ``live`` holds long-polls and
event streams: both know no transport.  ``front`` is what all fronts do with a request; ``handler``
(aiohttp's), ``fast_lane`` and ``asgi`` are those that read requests and send what was decided.
``bodies`` bounds what is sent; ``sending``, ``event_stream`` and ``sendfile`` put answers on
aiohttp's wire, within the bounds of ``flow_control``.  ``server`` runs it all as a process of its
own, ``mounting`` inside an aiohttp application.  ``heads`` reads plain heads, ``bounded_parser``
bounds all of them, ``presence`` notices clients that leave.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durable_streams.http.mounting import Mount, mount

__all__ = ["Mount", "mount"]

if not TYPE_CHECKING:  # what serves ASGI has no use for aiohttp

    def __getattr__(name: str) -> object:
        """Import what mounts in aiohttp's applications when it is asked for."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from durable_streams.http import mounting  # noqa: PLC0415 - it imports aiohttp

        return getattr(mounting, name)

"""The HTTP layer: requests in, answers out; everything in between is the store's.

``exchange`` decides what is asked for and describes the answer, and ``live`` holds long-polls and
event streams: both know no transport.  ``handler`` and ``fast_lane`` are the fronts, which read
requests and send what was decided.  ``body`` reads request bodies; ``sending``, ``event_stream``
and ``sendfile`` put answers on the wire, within the bounds of ``flow_control``.  ``server`` runs it
all as a process of its own, ``mounting`` inside an aiohttp application.  ``heads`` reads plain
heads, ``bounded_parser`` bounds all of them, ``presence`` notices clients that leave.
"""

from durable_streams.http.mounting import Mount, mount

__all__ = ["Mount", "mount"]

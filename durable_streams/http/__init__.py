"""The HTTP layer: requests in, answers out; everything in between is the engine's.

``handler`` turns a request into a command and an outcome into an answer.  ``body`` reads request
bodies, ``live`` holds long-polls and event streams.  ``sending``, ``event_stream`` and ``sendfile``
put answers on the wire, within the bounds of ``flow_control``.  ``server`` runs them as a process
of its own, with ``fast_lane`` before them, ``mounting`` inside an aiohttp application.
``bounded_parser`` bounds heads, ``presence`` notices clients that leave.
"""

from durable_streams.http.mounting import Mount, mount

__all__ = ["Mount", "mount"]

"""A client of servers of durable streams: the verbs of the library, over HTTP.

Its core does no I/O.  ``steps`` is what it asks for; ``verbs``, ``reading`` and ``inspecting`` are
conversations, ``following`` and ``producing`` states; ``aio…`` does that in an event loop, by
aiohttp, and ``sync…`` in threads, by urllib3.

Importing this imports neither of them: its names are looked up when they are first used.
"""

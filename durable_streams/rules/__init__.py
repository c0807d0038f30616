"""The rules of the Durable Streams Protocol, without I/O: the same for every store.

Nothing here imports asyncio, aiohttp, os or a clock: time and randomness are arguments.
"""

"""A second store: streams in memory, by the same rules, gone with the process.

It shows that whoever uses a :class:`~durable_streams.store.Store` needs nothing of files.  Each
write is done, and as durable as it gets, before its call returns.
"""

from tests.memory_store.store import MemoryStore, NeverNow

__all__ = ["MemoryStore", "NeverNow"]

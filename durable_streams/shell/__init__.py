"""Streams in a shell: ``ls``, ``append``, ``tail -f``, and all else that one does with them.

The same verbs for a server, by its URL, and for a data directory.  Each is a program of its own
that ends; what it found out is its exit status (:mod:`.exit_status`).
"""

from typing import Final

VERBS: Final = frozenset(
    {"ls", "info", "create", "fork", "close", "rm", "append", "read", "tail", "context", "bench"}
)
"""All of them: what serves and maintains is not imported for these."""

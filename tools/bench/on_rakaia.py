"""PyPI's rakaia-streams in uvicorn, for ``scripts/bench --everybody``; ``on_uvicorn`` has ours.

``python -m tools.bench.on_rakaia PORT STORE DATA_DIR``: the store is ``memory``, its default, or
``files``, its lines of JSON, where each append is synced unless told otherwise, or ``unsynced``,
the same told otherwise.  Run by the Python of ``.venv-rakaia``, in which nothing of ours is.
"""

from __future__ import annotations

import sys
from typing import Final

import uvicorn
from rakaia import JsonlStreamStore, StreamStore, create_app

STORES: Final = {
    "memory": lambda _: StreamStore(),
    "files": JsonlStreamStore,
    "unsynced": lambda data_dir: JsonlStreamStore(data_dir, fsync=False),
}

if __name__ == "__main__":
    port, store, data_dir = sys.argv[1:]
    uvicorn.run(
        create_app(store=STORES[store](data_dir)),
        port=int(port),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=75,
        backlog=4096,
    )

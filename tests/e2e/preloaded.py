"""An application for gunicorn, which imports it before it forks its workers (``--preload``).

``STORE``: where its streams are, for which a worker waits until the one before has closed them.
``MASTER``: a directory that the master itself has open, in a loop in a thread, and hands to an
application that its workers must not start.
"""

from __future__ import annotations

import asyncio
import os
import threading

from aiohttp import web

import durable_streams


async def pid(_request: web.Request) -> web.Response:
    return web.json_response(os.getpid())


def opened_by_the_master(directory: str) -> durable_streams.Streams:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    opening = durable_streams.open(directory)
    return asyncio.run_coroutine_threadsafe(opening.__aenter__(), loop).result()


app = web.Application()
app.router.add_get("/pid", pid)
if "MASTER" in os.environ:
    durable_streams.mount(app, "/streams", streams=opened_by_the_master(os.environ["MASTER"]))
else:
    # Longer than gunicorn lets a worker take for its end, which may be all of that time.
    settings = durable_streams.Settings(lock_wait_s=60)
    durable_streams.mount(app, "/streams", data_dir=os.environ["STORE"], settings=settings)

"""Applications that serve streams, as docs/asgi.rst says; the tests start servers of them.

``STREAMS_DATA`` is where their streams live.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import django
from django.conf import settings as django_settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount

import durable_streams
from durable_streams import HttpSettings, Settings

if TYPE_CHECKING:
    from django.http import HttpRequest
    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.requests import Request
    from starlette.responses import Response

PREFIX = "/v1/stream"

streams = durable_streams.asgi(
    os.environ["STREAMS_DATA"],
    settings=Settings(lock_wait_s=float(os.environ.get("STREAMS_LOCK_WAIT_S", "0"))),
    http_settings=HttpSettings(
        long_poll_timeout_s=float(os.environ.get("STREAMS_LONG_POLL_S", "30")),
        stall_timeout_s=float(os.environ.get("STREAMS_STALL_S", "30")),
        body_timeout_s=float(os.environ.get("STREAMS_BODY_S", "30")),
        sse_lifetime_s=float(os.environ.get("STREAMS_SSE_S", "600")),
    ),
    drain_on_signals=True,
)

plain = streams
"""The whole application, with the streams at its root."""

fastapi = FastAPI(lifespan=streams.lifespan)
fastapi.mount(PREFIX, streams)


@fastapi.get("/hello")
async def hello() -> str:
    return "hello"


@fastapi.get("/pid")
async def pid() -> int:
    return os.getpid()


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


starlette = Starlette(
    lifespan=streams.lifespan,
    routes=[Mount("/v1", routes=[Mount("/stream", streams)])],
    middleware=[Middleware(BaseHTTPMiddleware, dispatch=pass_on)],
)
"""In a mount of a mount, behind a middleware that has messages of its own."""


def greet(_: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


urlpatterns = [path("hello", greet)]
django_settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of tests")
django.setup()

in_django = streams.around(get_asgi_application(), PREFIX)

"""Settings of the HTTP layer, of ``mount`` and of ``serve``."""

from __future__ import annotations

from dataclasses import dataclass

from durable_streams.model.setting import check, setting
from durable_streams.settings.sizes import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Settings of the HTTP layer.

    Names end in the unit: ``_bytes``, or ``_s`` for seconds.  A value out of the bounds named here
    raises ``ValueError``, one of another type ``TypeError``.  Those marked *server only* mean
    nothing to ``mount``: there they are up to the application.
    """

    prefix: str = setting(
        "/v1/stream",
        help="URL path below which the streams are",
        flag=True,
    )
    long_poll_timeout_s: float = setting(
        30.0,
        above=0,
        help="how long a long-poll waits for data before it is answered 204",
        flag=True,
        reloadable=True,
    )
    sse_lifetime_s: float = setting(
        60.0,
        above=0,
        help="time after which an event stream is ended, to be reopened; a random 0 to 10 % "
        "earlier",
        flag=True,
        reloadable=True,
    )
    sse_keepalive_s: float = setting(
        15.0,
        above=0,
        help="silence in an event stream after which a comment is sent; a random 0 to 10 % earlier",
        reloadable=True,
    )
    stall_timeout_s: float = setting(
        30.0,
        help="how long a client may take nothing of an answer before its connection is cut off",
    )
    body_timeout_s: float = setting(
        30.0,
        help="how long a request body may take, and 1 s more for each 16 KiB of it; then it is "
        "answered 408",
        reloadable=True,
    )
    head_timeout_s: float = setting(
        30.0,
        help="how long the head of a request may take, from its first byte on; then it is answered "
        "408",
        more="Server only.",
        reloadable=True,
    )
    keepalive_timeout_s: float = setting(
        120.0,
        above=0,
        help="how long a connection may be idle; a proxy in front has to close its own sooner",
        more="Server only.",
        flag=True,
    )
    shutdown_grace_s: float = setting(
        5.0,
        help="how long requests under way may take when the server stops",
        more="Server only.",
        reloadable=True,
    )
    max_connections: int = setting(
        10_000,
        least=1,
        help="connections served at a time; one more is answered 503",
        more="``serve`` takes fewer if the limit of open files is low.  Server only.",
        flag=True,
        reloadable=True,
    )
    max_bodies_bytes: int = setting(
        256 * MIB,
        least=1,
        help="request bodies in memory at a time, at least one; what exceeds it is answered 503",
        more="Without the first 64 KiB of each body, and at least ``max_append_bytes``, the "
        "largest one, if this is less.",
        flag=True,
    )
    console: str = setting(
        "auto",
        choices=("auto", "off", "read-only", "full"),
        help="the console, a page for browsers below ``__ds/console/``; auto: full for a ``serve`` "
        "that listens on loopback, else off",
        more="``read-only`` leaves out what changes anything; what one may do is up to their "
        "credentials in any case.",
        flag=True,
    )
    private_caching: bool = setting(
        False,
        help="keep streams out of shared caches: answers say ``private``",
        flag=True,
    )
    immutable_max_age_s: int = setting(
        60,
        help="how long caches may keep an answer that ends before the tail",
        more="And 300 s more while they ask for it again; ``Settings.remember_removed_s`` has to "
        "be 360 s longer.",
    )
    access_log: bool = setting(
        False,
        help="log a line for every request",
        flag=True,
        reloadable=True,
    )
    access_log_sample: float = setting(
        1.0,
        most=1,
        help="of the requests, the share that has a line in the access log, such as ``0.01``",
        more="What was refused (401, 403, 429), and what failed here (5xx), always has one.",
        flag=True,
        reloadable=True,
    )
    requests_per_s: float = setting(
        0.0,
        help="requests that one may make in a second, on average; 0: any number",
        more="Whoever is known by a token or JWT has it by name, all others by their address.  "
        "What is beyond it is answered 429.",
        flag=True,
        reloadable=True,
    )
    bytes_per_s: float = setting(
        0.0,
        help="bytes that one may send and be sent in bodies in a second, on average; 0: any number",
        more="Events that come while one follows a stream do not count; those before them do.",
        flag=True,
        reloadable=True,
    )
    burst_s: float = setting(
        10.0,
        help="of how many seconds one may have requests and bytes at once",
        flag=True,
        reloadable=True,
    )
    max_live_readers: int = setting(
        0,
        help="long-polls and event streams that one may have at a time; 0: any number",
        flag=True,
        reloadable=True,
    )
    cors_origin: tuple[str, ...] = setting(
        (),
        help="origins of web pages that are welcome, such as ``https://app.example``",
        more="Without authentication they are so beside those of the server and, of ``serve``, of "
        "this machine (``http://localhost:5173``); with it instead of all others.",
        flag=True,
    )
    allowed_host: tuple[str, ...] = setting(
        (),
        help="names by which the server is reached, such as ``streams.example``, with or without "
        "a port; requests for others are refused",
        more="Without any they are checked by a ``serve`` that listens on loopback and without "
        "authentication: it takes those of this machine only.",
        flag=True,
    )
    trusted_proxy: tuple[str, ...] = setting(
        (),
        help="addresses or networks of proxies whose forwarding headers count, such as "
        "``10.0.0.0/8``",
        more="Those of peers on loopback and on unix sockets always do, those of others never.",
        flag=True,
    )
    fast_lane: bool = setting(
        True,
        help="answer plain small requests without aiohttp, which is faster",
        more="Answers are the same either way.  Server only.",
        flag=True,
    )

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        check(self)

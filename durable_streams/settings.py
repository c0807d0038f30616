"""All settings, built once and passed down.

Each is stated here and nowhere else (``model/setting`` says what is made of that).  The library
reads no environment: ``serve`` does, see ``process/options``.  It is one module because whoever
looks for a setting has to look nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from durable_streams.model.setting import check, setting
from durable_streams.model.stream_limits import parse_limits

KIB: Final = 1024
MIB: Final = 1024 * KIB

MAX_PORT: Final = 65_535


class Durability(Enum):
    """What an acknowledgement means.

    FSYNC: on disk, survives power loss.  INTERVAL: handed to the kernel and synced every
    ``sync_interval_s``.  NONE: handed to the kernel.  The last two survive a killed process.
    """

    FSYNC = "fsync"
    INTERVAL = "interval"
    NONE = "none"


def least_journal_file_bytes(max_append_bytes: int) -> int:
    """The smallest journal file that has room for the largest append and what goes with it."""
    return 2 * max_append_bytes + MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the engine (the HTTP server has its own, :class:`HttpSettings`).

    Names end in the unit: ``_bytes``, or ``_s`` for seconds.  A value out of the bounds named here
    raises ``ValueError``, one of another type ``TypeError``.
    """

    durability: Durability = setting(
        Durability.FSYNC,
        help="what an acknowledgement means",
        more="Its text (``'fsync'``) does as well.",
        flag=True,
    )
    sync_interval_s: float = setting(
        1.0,
        help="time between two syncs of the journal, with ``interval`` only",
        more="Looked at every 0.5 s.",
    )
    max_append_bytes: int = setting(
        16 * MIB,
        least=1,
        help="largest body of one append or create; a larger one is answered 413",
        more="In programs: ``PayloadTooLarge``.",
        flag=True,
    )
    segment_bytes: int = setting(
        16 * MIB,
        least=1,
        help="size at which a stream begins its next segment file",
        more="A segment is larger only if one append is.",
        flag=True,
    )
    index_bytes: int = setting(
        4 * MIB,
        least=1,
        help="size of an index at which its segment ends, too",
        more="Producers may make an index larger.",
    )
    max_read_bytes: int = setting(
        4 * MIB,
        help="the most that one read returns",
        more="An append that is larger is returned whole.",
    )
    journal_file_bytes: int = setting(
        64 * MIB,
        help="size of each journal file, at least twice ``max_append_bytes`` plus 1 MiB",
        more="``serve`` takes so much if the setting is not given.",
    )
    journal_files: int = setting(
        4,
        least=2,
        help="the most journal files there are",
        more="When all are full, writes are held up until one is free.",
    )
    max_open_streams: int = setting(
        100_000,
        help="streams kept open in memory though nobody uses them",
        more="Fewer if they have many producers.",
    )
    max_open_files: int = setting(
        8_192,
        help="descriptors kept open for streams' files, half for reading and half for writing",
        more="At most a fifth of the process's limit (its soft one, which is not raised: ``serve`` "
        "does that).",
    )
    reserve_bytes: int = setting(
        64 * MIB,
        help="room on the disk below which only deletions are taken; at most 1/16 of the volume",
        more="What is on its way to the files counts as taken.",
        flag=True,
    )
    max_lag_s: float = setting(
        0.25,
        help="how long streams' files may lag behind the journal before new writes are held up",
    )
    held_up_s: float = setting(
        5.0,
        infinite=True,
        help="how long a write that is held up waits while nothing moves, neither to the journal "
        "nor to the streams' files",
        more="Then it is ``Overloaded``, 503.  While anything moves it waits for its turn.  "
        "``math.inf``: it waits for its turn, however long that takes.",
    )
    remember_removed_s: float = setting(
        420.0,
        help="how long after the end of a stream one that is made at its path begins above its "
        "segments",
        more="Caches may have pieces of it: at least 360 seconds more than what "
        "``HttpSettings.immutable_max_age_s`` says.",
    )
    max_streams: tuple[str, ...] = setting(
        (),
        help="how many streams there may be at and below a prefix, such as ``chat=1000``, or "
        "``=100000`` for all; one more is answered 429",
        more="The prefix is one of whole segments.  What expired counts until it is removed.",
        flag=True,
    )
    max_producers: int = setting(
        0,
        help="producers that one stream may have; 0: as many as their table has room for",
        more="For one more those are forgotten that have been idle for over 7 days; if there is "
        "none, it is answered 429.  Producers that the stream knows are never refused.",
        flag=True,
    )
    store_allow_unreplicated: bool = setting(
        False,
        help="with a database as the store: open one whose commits wait for no standby",
        more="Such as a service that replicates below, or one that may lose what it acknowledged.",
        flag=True,
    )
    lock_wait_s: float = setting(
        0.0,
        infinite=True,
        help="how long to wait for the data directory while another process has it open",
        more="For a successor that is started before its predecessor has ended.  It opens a moment "
        "after that, and is refused after this time; 0: at once.  ``math.inf``: it waits for its "
        "turn, as a standby.  A database needs no wait.",
        flag=True,
    )
    reclaim_delay_s: float = setting(
        3600.0,
        help="time from a start, or a jump of the clock, until the files of expired streams may be "
        "removed",
    )
    reclaim_interval_s: float = setting(
        3600.0,
        help="time between two searches for expired streams whose files can be removed",
    )

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        check(self)
        try:
            parse_limits(self.max_streams)
        except ValueError as error:
            raise ValueError(f"max_streams: {error}") from None
        least = least_journal_file_bytes(self.max_append_bytes)
        if self.journal_file_bytes < least:
            raise ValueError(
                "journal_file_bytes: a journal file has to hold the largest append twice: at "
                f"least {least} bytes, not {self.journal_file_bytes}"
            )


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


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Settings of authentication; without any of its files nobody has to say who they are.

    A value out of the bounds named here raises ``ValueError``, one of another type ``TypeError``.
    """

    tokens: str = setting(
        "",
        help="file with the tokens that are known, in TOML",
        more="``durable-streams token new`` makes it.  What is changed in it counts within 2 s.",
        flag=True,
        path=True,
    )
    store_tokens: bool = setting(
        False,
        help="with a database as the store: know the tokens that are kept in it, for all nodes",
        more="``durable-streams token new --store URL`` makes them.  It takes the place of "
        "``tokens``; what is changed counts within 2 s on all nodes.  So it is with the keys of "
        "signed URLs, unless ``signing_keys`` names a file.",
        flag=True,
    )
    signing_keys: str = setting(
        "",
        help="file with the keys of signed URLs, in TOML and outside of the data directory",
        more="The first one signs, all of them are taken.  It needs ``tokens``.",
        flag=True,
        path=True,
    )
    jwt_secret: str = setting(
        "",
        help="file with the secret of JWTs by HS256, of 32 bytes at least",
        flag=True,
        path=True,
    )
    jwt_public_key: str = setting(
        "",
        help="file with the public key of JWTs, in PEM: of RSA for RS256, of P-256 for ES256, of "
        "Ed25519 for EdDSA",
        flag=True,
        path=True,
    )
    jwt_jwks: str = setting(
        "",
        help="URL of the key set of JWTs (JWKS): https, or http on loopback",
        flag=True,
    )
    jwt_audience: str = setting(
        "",
        help="what the claim ``aud`` of a JWT has to name; needed for JWTs",
        flag=True,
    )
    jwt_issuer: str = setting(
        "",
        help="what the claim ``iss`` of a JWT has to be; needed for ``jwt_jwks``",
        flag=True,
    )
    jwt_leeway_s: float = setting(
        30.0,
        most=300,
        help="how far the clocks of issuer and server may be apart",
    )
    jwt_claim: str = setting(
        "durable_streams",
        help="claim of a JWT that has its grants",
    )
    conceal: bool = setting(
        False,
        help="answer 404 instead of 403 to whoever has no scope at all on a stream",
        flag=True,
    )

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        check(self)
        if self.tokens and self.store_tokens:
            raise ValueError("give one of tokens and store_tokens: a file, or the database")
        if self.signing_keys and not (self.tokens or self.store_tokens):
            raise ValueError("signing_keys needs tokens: a signed URL has the rights of a token")
        keys = [self.jwt_secret, self.jwt_public_key, self.jwt_jwks]
        if sum(map(bool, keys)) > 1:
            raise ValueError("give one of jwt_secret, jwt_public_key and jwt_jwks")
        if any(keys) and not self.jwt_audience:
            raise ValueError("JWTs need jwt_audience: else those made for others would do here")
        if self.jwt_jwks and not self.jwt_issuer:
            raise ValueError("jwt_jwks needs jwt_issuer: a key set may be that of several issuers")

    @property
    def is_on(self) -> bool:
        """Whether whoever asks has to say who they are."""
        keys = self.jwt_secret or self.jwt_public_key or self.jwt_jwks
        return bool(self.tokens or self.store_tokens or keys)


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``metrics_listen``; ``ValueError`` if it is no such text."""
    host, _, port = text.rpartition(":")
    is_port = port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))
    if not host or not is_port or int(port) > MAX_PORT:
        raise ValueError(
            f"metrics_listen is no HOST:PORT: {text!r}: give one such as 127.0.0.1:9464 or "
            "[::1]:9464"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """Settings of ``serve`` alone: what the server is as a process."""

    host: tuple[str, ...] = setting(
        (),
        help="addresses to listen on; without any: 127.0.0.1, unless there is a ``unix_socket``",
        more="A name is listened on at each of its addresses, ``::`` at all addresses of IPv6 and "
        "IPv4.",
        flag=True,
    )
    port: int = setting(
        4437,  # assigned by the protocol (section 13.1)
        most=MAX_PORT,
        help="port to listen on, the same for all addresses; 0: any free one",
        flag=True,
    )
    unix_socket: str = setting(
        "",
        help="path of a unix socket to listen on, beside the hosts that are given",
        more="The server makes it, with mode 0660, and removes it at the end.",
        path=True,
        flag=True,
    )
    tls_cert: str = setting(
        "",
        help="file with the certificate for TLS, in PEM, and those between it and its authority "
        "behind it; the addresses then speak https",
        more="It needs ``tls_key``; unix sockets and ``metrics_listen`` stay plain.  What both "
        "files have is read again on ``SIGHUP``, where they are is not.",
        flag=True,
        path=True,
    )
    tls_key: str = setting(
        "",
        help="file with the private key of ``tls_cert``, in PEM and not encrypted",
        more="It may be the same file.",
        flag=True,
        path=True,
    )
    metrics_listen: str = setting(
        "",
        help="``HOST:PORT`` to have metrics on as well, without authentication and nothing else",
        more="For an address that only those reach who watch.  Port 0: any free one.",
        flag=True,
    )
    insecure: bool = setting(
        False,
        help="listen on addresses that others reach, without authentication: they may read, write "
        "and delete everything",
        flag=True,
    )
    data_dir: str = setting(
        "data",
        help="where streams live",
        more="Made if it is missing.",
        flag=True,
        path=True,
    )
    store: str = setting(
        "",
        help="database where streams live instead, such as ``postgresql://ds@db1,db2/streams``",
        more="A password belongs into PGPASSWORD or PGPASSFILE.",
        flag=True,
    )
    loop: str = setting(
        "auto",
        choices=("auto", "uvloop", "asyncio"),
        help="event loop; auto: uvloop if it is installed",
        flag=True,
    )
    log_format: str = setting(
        "text",
        choices=("text", "json"),
        help="format of the lines on stderr",
        flag=True,
        reloadable=True,
    )

    def __post_init__(self) -> None:
        """Refuse what cannot work, with an error that says what can."""
        check(self)
        if self.metrics_listen:
            parse_address(self.metrics_listen)

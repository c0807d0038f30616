"""Whether a database keeps what it acknowledges: what is found, in a line, and what to do about it.

No I/O: judges :mod:`.facts`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from durable_streams.postgres.facts import ACKNOWLEDGED_WITHIN_S, NODE_SESSIONS
from durable_streams.postgres.versions import NEWER, VERSION, Fit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.postgres.facts import Facts, Rights

OLDEST_MAJOR: Final = 15
"""Of PostgreSQL: older ones were never tried."""

RACE_FIXED_IN: Final = {15: 13, 16: 9, 17: 5}
"""Minor versions since which commits wait for standbys from the first moment of a start on."""

_ANY_OR_FIRST: Final = re.compile(r"\s*(?:(?:any|first)\s+)?(\d+)\s*\(", re.IGNORECASE)
"""How a list of standbys begins that says how many of them count."""

CLOCKS_APART_S: Final = 2.0
"""Streams end by the database's clock, tokens by the node's."""


class Level(Enum):
    """How bad something is; only what is ``WRONG`` keeps nodes from serving."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "WRONG"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a database; ``str()`` is a line."""

    level: Level
    text: str

    def __str__(self) -> str:
        return f"{self.level.value:7}  {self.text}"


def check(facts: Facts, *, allow_unreplicated: bool = False) -> list[Finding]:
    """All there is to say of a database.

    ``allow_unreplicated``: it need not wait for a standby, as storage below is replicated, say.
    """
    return [
        *_server(facts),
        *_hosts(facts),
        *_sessions(facts),
        *_disk(facts),
        *_standbys(facts, allow_unreplicated=allow_unreplicated),
        *_commit(facts),
        *_clock(facts),
        *_tables(facts),
        *_permissions(facts),
    ]


def _ok(text: str) -> Finding:
    return Finding(Level.OK, text)


def _warning(text: str) -> Finding:
    return Finding(Level.WARNING, text)


def _wrong(text: str) -> Finding:
    return Finding(Level.WRONG, text)


def _server(facts: Facts) -> Iterator[Finding]:
    version = facts.settings["server_version"].split()[0]
    major, minor = divmod(int(facts.settings["server_version_num"]), 10_000)
    fixed = RACE_FIXED_IN.get(major, 0)
    if major < OLDEST_MAJOR:
        yield _wrong(f"PostgreSQL {version} was never tried: use {OLDEST_MAJOR} or newer")
    elif minor < fixed:
        yield _wrong(
            f"PostgreSQL {version} may acknowledge commits without a standby right after its "
            f"start: install {major}.{fixed} or newer"
        )
    else:
        yield _ok(f"PostgreSQL {version} takes writes at {facts.shown}")
    encoding = facts.settings["server_encoding"]
    if encoding != "UTF8":
        yield _wrong(
            f"the database's encoding is {encoding}: make one with createdb --encoding UTF8 "
            "--template template0"
        )


def _hosts(facts: Facts) -> Iterator[Finding]:
    for problem in facts.problems_of_hosts:
        yield _warning(problem)
    if facts.primaries > 1:
        yield _wrong(
            f"{facts.primaries} of the URL's hosts are primaries, so writes are parted: stop those "
            "that were deposed"
        )


def _sessions(facts: Facts) -> Iterator[Finding]:
    if facts.shares_sessions:
        yield _wrong(
            "a pooler in between shares sessions among clients, so none keeps what was set, "
            "prepared or listened to: connect directly, or set its pool_mode to session"
        )
    else:
        yield _ok("sessions are kept")


def _disk(facts: Facts) -> Iterator[Finding]:
    lost = [name for name in ("fsync", "full_page_writes") if facts.settings[name] != "on"]
    for name in lost:
        yield _wrong(f"{name} is off, so a crash may damage what was acknowledged: set {name} = on")
    if not lost:
        yield _ok("fsync and full_page_writes are on")
    if facts.settings["data_checksums"] != "on":
        yield _warning(
            "data_checksums are off, so damage on disks goes unseen until it is read: stop the "
            "server and run pg_checksums --enable"
        )
    if facts.settings["autovacuum"] != "on":
        yield _warning("autovacuum is off, so tables only grow: set autovacuum = on")


def required_acknowledgements(names: str) -> int:
    """How many standbys ``synchronous_standby_names`` makes a commit wait for."""
    if not names.strip():
        return 0
    match = _ANY_OR_FIRST.match(names)
    return int(match[1]) if match else 1


def _standbys(facts: Facts, *, allow_unreplicated: bool) -> Iterator[Finding]:
    names = facts.settings["synchronous_standby_names"]
    required = required_acknowledgements(names)
    if not required:
        text = "no standby is synchronous, so what is acknowledged may be lost with one machine"
        if allow_unreplicated:
            yield _warning(f"{text}, as was allowed")
        else:
            yield _wrong(
                f"{text}: set synchronous_standby_names, to ANY 1 (*) say, or allow it with "
                "--store-allow-unreplicated if storage below is replicated"
            )
    elif facts.standbys is None:
        yield _warning(
            f"commits wait for {names}, but {facts.rights.user} may not see which of them are "
            f"there: grant pg_read_all_stats to {facts.rights.user}"
        )
    elif facts.standbys < required:
        yield _wrong(
            f"{facts.standbys} of {required} standbys are there that commits wait for ({names}), "
            "so nothing is acknowledged: start them"
        )
    elif facts.standbys == required:
        yield _warning(
            f"commits wait for {names}, and no standby is to spare, so nothing is acknowledged "
            "when one fails: add one"
        )
    else:
        yield _ok(f"commits wait for {names}, and {facts.standbys} standbys are there")


def _commit(facts: Facts) -> Iterator[Finding]:
    if facts.acknowledged_ms is None:
        yield _wrong(
            f"a commit was not acknowledged within {ACKNOWLEDGED_WITHIN_S:g} s: see to it that "
            "the standbys run and are connected"
        )
    else:
        yield _ok(f"a commit was acknowledged in {facts.acknowledged_ms:.1f} ms")


def _clock(facts: Facts) -> Iterator[Finding]:
    apart_s = abs(facts.ahead_s)
    if apart_s - facts.asked_for_s > CLOCKS_APART_S:
        which = "ahead of" if facts.ahead_s > 0 else "behind"
        yield _warning(
            f"the database's clock is {apart_s:.1f} s {which} the one here: keep both by NTP"
        )
    else:
        yield _ok("clocks agree")


def _tables(facts: Facts) -> Iterator[Finding]:
    if facts.version is None:
        return
    fit = facts.version.fit()
    if facts.version.number > VERSION and fit is Fit.FITS:
        yield _ok(NEWER.format(version=facts.version, known=VERSION))
    elif fit is Fit.FITS:
        yield _ok(f"its tables are of version {facts.version.number}")
    else:
        yield _wrong(fit.value)


def _permissions(facts: Facts) -> Iterator[Finding]:
    rights, version = facts.rights, facts.version
    problems = what_is_denied(rights)
    if not problems and version is not None and not version.number and not rights.may_create:
        problems.append(
            f"{rights.user} may not make the tables: grant create on the database to "
            f"{rights.user}, or make a schema ds that {rights.user} owns"
        )
    yield from map(_wrong, problems)
    if not problems:
        yield _ok(f"{rights.user} may do what nodes do")


def what_is_denied(rights: Rights) -> list[str]:
    """What keeps a user's nodes from doing what they do, in lines."""
    problems = []
    if rights.denied:
        problems.append(
            f"{rights.user} may not use all tables ({', '.join(rights.denied)}): grant usage on "
            "schema ds, and select, insert, update, delete on all tables in it, or connect as "
            "their owner"
        )
    if rights.connections < NODE_SESSIONS:
        problems.append(
            f"{rights.user} may have {rights.connections} connections, and a node takes "
            f"{NODE_SESSIONS}: raise the CONNECTION LIMIT of the user or the database, or "
            "max_connections"
        )
    return problems

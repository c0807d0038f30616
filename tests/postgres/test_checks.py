"""What ``store check`` says of what a database may be like, without one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from durable_streams.postgres.checks import Level, check, required_acknowledgements
from durable_streams.postgres.facts import NODE_SESSIONS, Facts, Rights
from durable_streams.postgres.versions import VERSION, Version

SETTINGS = {
    "autovacuum": "on",
    "data_checksums": "on",
    "fsync": "on",
    "full_page_writes": "on",
    "server_encoding": "UTF8",
    "server_version": "15.18 (Debian 15.18-0+deb12u1)",
    "server_version_num": "150018",
    "synchronous_standby_names": "ANY 1 (n2, n3)",
}
GOOD = Facts(
    shown="postgresql://ds@db1/streams",
    settings=SETTINGS,
    version=Version(VERSION, 1),
    problems_of_hosts=(),
    primaries=1,
    shares_sessions=False,
    ahead_s=0.1,
    asked_for_s=0.0,
    acknowledged_ms=1.2,
    standbys=2,
    rights=Rights("ds", NODE_SESSIONS, may_create=False, denied=()),
)


def but(**settings: str) -> dict[str, Any]:
    return {"settings": SETTINGS | settings}


def but_may(**rights: Any) -> dict[str, Any]:
    return {"rights": replace(GOOD.rights, **rights)}


def test_a_good_one_has_no_fault() -> None:
    assert {finding.level for finding in check(GOOD)} == {Level.OK}


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        (but(fsync="off"), "set fsync = on"),
        (but(full_page_writes="off"), "set full_page_writes = on"),
        (but(server_encoding="LATIN1"), "createdb --encoding UTF8"),
        (but(server_version="14.20", server_version_num="140020"), "use 15 or newer"),
        (but(server_version="15.12", server_version_num="150012"), "install 15.13 or newer"),
        (but(server_version="16.8", server_version_num="160008"), "install 16.9 or newer"),
        (but(server_version="17.4", server_version_num="170004"), "install 17.5 or newer"),
        (but(synchronous_standby_names=""), "set synchronous_standby_names"),
        ({"standbys": 0}, "0 of 1 standbys"),
        ({"standbys": 1} | but(synchronous_standby_names="ANY 2 (a, b, c)"), "1 of 2 standbys"),
        ({"acknowledged_ms": None}, "not acknowledged within 5 s"),
        ({"shares_sessions": True}, "pool_mode to session"),
        ({"primaries": 2}, "stop those that were deposed"),
        ({"version": Version()}, "store init"),
        ({"version": Version(VERSION + 5, VERSION + 1)}, "install a newer"),
        ({"version": Version()}, "grant create on the database to ds"),
        (but_may(denied=("streams", "versions")) | {"version": None}, "grant usage on schema ds"),
        (but_may(connections=NODE_SESSIONS - 1), "raise the CONNECTION LIMIT"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_would_lose_data_or_cannot_serve_is_wrong(
    otherwise: dict[str, Any], said: str
) -> None:
    found = check(replace(GOOD, **otherwise))
    wrong = [finding.text for finding in found if finding.level is Level.WRONG]
    assert any(said in text for text in wrong), found
    assert all(("\n" not in text and ": " in text) or "run " in text for text in wrong)


@pytest.mark.parametrize(
    ("otherwise", "said"),
    [
        (but(data_checksums="off"), "pg_checksums --enable"),
        (but(autovacuum="off"), "set autovacuum = on"),
        ({"standbys": 1}, "add one"),
        ({"standbys": None}, "grant pg_read_all_stats to ds"),
        ({"ahead_s": 2.5}, "2.5 s ahead of"),
        ({"ahead_s": -2.5}, "2.5 s behind"),
        ({"problems_of_hosts": ("db2: it is not reached",)}, "db2"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_is_worth_knowing_is_a_warning(otherwise: dict[str, Any], said: str) -> None:
    found = check(replace(GOOD, **otherwise))
    assert not [finding for finding in found if finding.level is Level.WRONG]
    assert any(f"{said}" in f"{finding}" for finding in found if finding.level is Level.WARNING)


@pytest.mark.parametrize(
    ("number", "name"), [(150013, "15.13"), (160009, "16.9"), (170005, "17.5"), (180000, "18.0")]
)
def test_versions_that_wait_from_their_start_on_are_good(number: int, name: str) -> None:
    settings = but(server_version=name, server_version_num=f"{number}")
    assert {finding.level for finding in check(replace(GOOD, **settings))} == {Level.OK}


def test_what_a_slow_answer_may_have_made_of_it_is_no_difference_of_clocks() -> None:
    found = check(replace(GOOD, ahead_s=2.5, asked_for_s=1.0))
    assert {finding.level for finding in found} == {Level.OK}


def test_one_that_is_not_replicated_will_do_if_that_was_allowed() -> None:
    found = check(replace(GOOD, **but(synchronous_standby_names="")), allow_unreplicated=True)
    assert not [finding for finding in found if finding.level is Level.WRONG]
    assert any("as was allowed" in finding.text for finding in found)


@pytest.mark.parametrize(
    ("names", "required"),
    [
        ("", 0),
        (" ", 0),
        ("*", 1),
        ("n2", 1),
        ("n2, n3", 1),
        ("2 (a, b, c)", 2),
        ("FIRST 2 (a, b, c)", 2),
        ("any 1 (*)", 1),
        ('ANY 3("a b", c, d)', 3),
    ],
)
def test_how_many_standbys_a_commit_waits_for(names: str, required: int) -> None:
    assert required_acknowledgements(names) == required

"""Whether a node may serve the streams of a database: asked before anything else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from durable_streams.postgres import versions
from durable_streams.postgres.checks import what_is_denied
from durable_streams.postgres.connecting import FAILURES, NoDatabase, explained
from durable_streams.postgres.facts import rights_of, shares_sessions
from durable_streams.postgres.versions import VERSION, Fit

if TYPE_CHECKING:
    from durable_streams.postgres.connecting import Hosts

log = logging.getLogger("durable_streams.postgres")


async def need_fit(hosts: Hosts, *, allow_unreplicated: bool) -> None:
    """:class:`NoDatabase` if it may not: tables, rights, standbys, or a pooler between."""
    url = hosts.url
    connection = await hosts.connect()
    try:
        for problem in what_is_denied(await rights_of(connection)):
            raise NoDatabase(f"{url}: {problem}")
        if await shares_sessions(hosts, connection):
            raise NoDatabase(
                f"{url}: a pooler in between shares sessions, transaction by transaction: connect "
                "to the database itself, or have the pooler keep sessions"
            )
        version = await versions.read(connection.fetch)
        fit = version.fit()
        if fit is not Fit.FITS:
            raise NoDatabase(f"{url}: {fit.value}")
        if version.number > VERSION:
            log.warning("%s: %s", url, versions.NEWER.format(version=version, known=VERSION))
        names = await connection.fetchval("show synchronous_standby_names")
    except FAILURES as error:
        raise NoDatabase(explained(error, url)) from None
    finally:
        connection.terminate()
    if not names and not allow_unreplicated:
        raise NoDatabase(
            f"{url}: commits wait for no standby, so what is acknowledged may be lost with one "
            "machine: set synchronous_standby_names, or say --store-allow-unreplicated"
        )

"""What ``docs/beyond-one-machine.rst`` says is done, with a real cluster for its three machines."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.documents import blocks_of
from tests.test_documents import assert_printed
from tools.postgres_cluster import PostgresCluster, in_memory
from tools.postgres_cluster.installed import beside_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import StartServer

PAGE: Final = "docs/beyond-one-machine.rst"
HOSTS: Final = "db1,db2,db3"
SERVES: Final = "durable-streams serve --store"


def documented_settings() -> dict[str, str]:
    (block,) = [block for block in blocks_of(PAGE) if block.language == "ini"]
    lines = [line.partition(" = ") for line in block.code.splitlines()]
    return {name: value.strip("'") for name, _, value in lines}


@pytest.fixture
def own_cluster() -> Iterator[PostgresCluster]:
    """As the page configures each of its machines."""
    with PostgresCluster(directory=in_memory(), settings=documented_settings()) as running:
        yield running


@pytest.mark.needs("postgres")
def test_a_database_that_is_set_up_as_told_is_good_and_nodes_serve_it(
    own_cluster: PostgresCluster, start_server: StartServer, tmp_path: Path
) -> None:
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in own_cluster.nodes)
    primary = own_cluster.primary
    places = [Path(sys.executable).parent, Path(beside_postgres("psql")).parent]
    variables = {
        "PATH": os.pathsep.join([*map(str, places), os.environ["PATH"]]),
        "PGHOST": "127.0.0.1",
        "PGPORT": f"{primary.port}",
        "PGUSER": "postgres",
    }
    shell = [block for block in blocks_of(PAGE) if block.language == "sh"]
    serves = [block for block in shell if block.code.startswith(SERVES)]
    for block in shell:
        if block in serves:
            continue
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code.replace(HOSTS, hosts)],
            env=os.environ | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert_printed(block.output, done.stdout.replace(hosts, HOSTS))

    (serve,) = serves
    options = shlex.split(serve.code.replace(HOSTS, hosts))[2:]
    one, other = [start_server(*options, data_dir=tmp_path / name) for name in ("one", "other")]
    create = urllib.request.Request(one.url("chat/room-1"), data=b"hello", method="PUT")
    with urllib.request.urlopen(create) as created:
        assert created.status == 201
    with urllib.request.urlopen(other.url("chat/room-1")) as read:
        assert read.read() == b"hello"

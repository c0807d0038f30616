"""What ``docs/beyond-one-machine.rst`` says is done, with a real cluster for its three machines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.documents import blocks_of
from tests.test_documents import assert_printed
from tools.postgres_cluster import PostgresCluster, in_memory
from tools.postgres_cluster.installed import beside_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

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
def test_a_database_that_is_set_up_as_told_is_found_good(own_cluster: PostgresCluster) -> None:
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
    assert len(serves) == 1
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

"""What ``docs/database-backups.rst`` says is done, in order, with a real cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.documents import blocks_of
from tests.test_documents import assert_printed
from tools.postgres_cluster.installed import beside_postgres

if TYPE_CHECKING:
    from tests.postgres.conftest import Database

PAGE: Final = "docs/database-backups.rst"
HOSTS: Final = "db1,db2,db3"


def test_the_commands_do_what_the_page_says(database: Database, tmp_path: Path) -> None:
    primary, name = database.cluster.primary, database.name
    hosts = f"127.0.0.1:{primary.port}"
    places = [Path(sys.executable).parent, Path(beside_postgres("psql")).parent]
    variables = {
        "PATH": os.pathsep.join([*map(str, places), os.environ["PATH"]]),
        "PGHOST": "127.0.0.1",
        "PGPORT": f"{primary.port}",
        "PGUSER": "postgres",
    }

    def ours(text: str) -> str:
        text = text.replace(f"ds@{HOSTS}", f"postgres@{hosts}").replace(
            "restored", f"{name}_restored"
        )
        text = text.replace(f"store {name}_restored", "store restored")
        return text.replace("/streams", f"/{name}").replace("dump streams", f"dump {name}")

    try:
        for block in blocks_of(PAGE):
            if block.language != "sh":
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", ours(block.code)],
                env=os.environ | variables,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert_printed([ours(line) for line in block.output], done.stdout)
    finally:
        primary.query(f"drop database if exists {name}_restored with (force)")

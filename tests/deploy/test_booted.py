"""What ``docs/deployment.rst`` says of systemd, done in an empty machine of systemd's own."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.deploy.booted import DATA, PROGRAMS, UNIT, BootedService, booted, problem
from tests.documents import blocks_of
from tests.programs import free_port
from tests.test_cli import request
from tools.proofs.kills import Run
from tools.proofs.load import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.deploy.booted import Systemd

pytestmark = pytest.mark.needs("systemd-analyze", "dbus-daemon")

PLAN: Final = Plan(lasting=4, changing=4, pause_s=0.01, appends=(3, 30), seed=1)
DYNAMIC_USERS: Final = range(61184, 65520)
SECCOMP_FILTER: Final = "2"


def told(first_word: str) -> str:
    """The block of the page that begins with this."""
    blocks = [block.code for block in blocks_of("docs/deployment.rst")]
    (found,) = [code for code in blocks if code.startswith(first_word)]
    return found


@pytest.fixture(scope="module")
def machine(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Systemd]:
    """One on which the page's first block was done, with the wheel."""
    why_not = problem()
    if why_not is not None:
        pytest.skip(f"NOT TESTED, the service under systemd itself: {why_not}")
    with booted(tmp_path_factory.mktemp("machine") / "root") as machine:
        install, serve = told("python3 -m venv").rsplit("\n", 1)
        assert install.count("'.[speed,jwt]'") == 1
        machine.shell(install.replace("'.[speed,jwt]'", f"'{wheel}[speed,jwt]'"))
        serve_until_told = f"{serve} --port 0 & read -r _; kill $!; wait $!"
        with subprocess.Popen(
            machine.entered("sh", "-c", serve_until_told),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as serving:
            assert serving.stdout is not None
            assert "listening on http://127.0.0.1:" in serving.stdout.readline()
            serving.communicate("\n")
        assert serving.returncode == 0
        assert list((machine.directory / "srv" / "streams").iterdir())
        yield machine


@pytest.fixture
def service(machine: Systemd) -> Iterator[BootedService]:
    """The service as the page has it started, at a port of its own; nothing of it stays."""
    port = free_port()
    etc = machine.directory / "etc"
    (etc / "durable-streams").mkdir(exist_ok=True)
    (etc / "durable-streams" / "environment").write_text(f"DURABLE_STREAMS_PORT={port}\n")
    status = machine.shell(told("install -m 644"))
    assert f"listening on http://127.0.0.1:{port}/v1/stream" in status
    yield BootedService(machine, port)
    machine.run("systemctl", "disable", "--now", "durable-streams.socket", UNIT)
    machine.done("systemctl", "clean", "--what=state", UNIT)
    machine.done("sh", "-c", "rm -r /etc/systemd/system/durable-streams.*")
    machine.done("systemctl", "daemon-reload")


def facts_of(pid: int) -> dict[str, str]:
    """What the kernel knows of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_the_service_is_nobody_and_has_its_own_directory_alone(
    service: BootedService, machine: Systemd
) -> None:
    facts = facts_of(service.pid)
    user = int(facts["Uid"].split()[0])
    assert user in DYNAMIC_USERS
    assert (facts["Seccomp"], facts["NoNewPrivs"]) == (SECCOMP_FILTER, "1")
    assert {int(facts[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    link = machine.here("var/lib/durable-streams")
    assert str(link.readlink()) == "private/durable-streams"
    private = machine.here("var/lib/private/durable-streams")
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert (private / "data").stat().st_uid == user
    machine.done("systemctl", "reload", UNIT)
    assert service.running


async def test_nothing_is_lost_when_the_service_is_killed_and_systemd_starts_it_again(
    service: BootedService, machine: Systemd
) -> None:
    report = await Run(service, PLAN).run(iter([0.3, 0.5]), javascript=0)
    assert report.faults == []
    assert service.restarts >= report.kills
    assert report.counters.acknowledged > 0
    assert service.stop() == 0
    sound = machine.done(PROGRAMS / "durable-streams", "verify", DATA)
    assert sound.endswith(": sound\n")


def test_tokens_are_made_as_the_servers_user(service: BootedService, machine: Systemd) -> None:
    token = machine.shell(told("systemd-run")).strip()
    assert re.fullmatch(r"dst_[\w-]+", token)
    url = service.url("chat/a")
    assert request("PUT", url, b"hello")[0] == 401
    shown = ["curl", "-sSf", f"-HAuthorization: Bearer {token}", "-HContent-Type: text/plain"]
    subprocess.run([*shown, "-XPUT", "-dhello", url], check=True)
    read = subprocess.run([*shown, url], capture_output=True, check=True)
    assert read.stdout == b"hello"
    tokens = machine.here("var/lib/private/durable-streams/tokens.toml").stat()
    assert tokens.st_uid in DYNAMIC_USERS
    assert stat.S_IMODE(tokens.st_mode) == 0o600


async def test_with_the_sockets_nobody_is_refused_while_the_service_is_started_again(
    service: BootedService, machine: Systemd
) -> None:
    installed = machine.directory / "etc" / "systemd" / "system" / "durable-streams.socket"
    text = installed.read_text()
    assert text.count(":4437") == 1
    installed.write_text(text.replace(":4437", f":{service.port}"))
    machine.done("systemctl", "daemon-reload")
    machine.shell(told("systemctl stop"))
    assert "and unix:/run/durable-streams.sock" in machine.told_of(UNIT, "StatusText")
    report = await Run(service, PLAN).run(iter([0.3, 0.5]), javascript=0)
    assert report.faults == []
    assert request("PUT", service.url("a"), b"hello")[0] == 201
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    assert request("GET", service.url("a")) == (200, b"hello")


def test_data_elsewhere_are_a_users_that_lasts(service: BootedService, machine: Systemd) -> None:
    with (machine.directory / "etc" / "passwd").open("a") as users:
        users.write("streams:x:990:990::/nonexistent:/usr/sbin/nologin\n")
    with (machine.directory / "etc" / "group").open("a") as groups:
        groups.write("streams:x:990:\n")
    machine.done("sh", "-c", "rm -rf /srv/streams; install -d -o streams -g streams /srv/streams")
    more = machine.directory / "etc" / "systemd" / "system" / "durable-streams.service.d"
    more.mkdir()
    (more / "override.conf").write_text(f"{told('[Service]')}\n")
    machine.done("systemctl", "daemon-reload")
    machine.done("systemctl", "restart", UNIT)
    assert facts_of(service.pid)["Uid"].split()[0] == "990"
    assert request("PUT", service.url("a"), b"hello")[0] == 201
    service.kill()
    service.start()
    assert request("GET", service.url("a")) == (200, b"hello")
    assert service.stop() == 0
    sound = machine.done(PROGRAMS / "durable-streams", "verify", "/srv/streams")
    assert sound.endswith(": sound\n")

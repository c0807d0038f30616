"""The image, compose and the manifests of Kubernetes: what they say is compared and run."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from durable_streams.process import options
from tests.caches.running import filled_in
from tests.deploy.containers import (
    CONTAINER,
    PlayedContainer,
    first_tokens,
    instructions,
    pod,
    resource,
    resources,
    said,
    services,
)
from tests.programs import free_port
from tests.test_cli import request
from tools.proofs.kills import Run
from tools.proofs.load import Plan
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PLAN: Final = Plan(lasting=4, changing=4, pause_s=0.01, appends=(3, 30), seed=1)
HERE: Final = Path(sys.executable).parent
OLDEST_KUBERNETES: Final = "1.29"
TOKENS: Final = {"DURABLE_STREAMS_TOKENS": "/data/tokens.toml"}


@pytest.fixture
def play(programs: Path, tmp_path: Path) -> Iterator[Callable[..., PlayedContainer]]:
    """Make containers that share a volume; those that still run at the end are ended."""
    played: list[PlayedContainer] = []

    def play(environment: Mapping[str, str]) -> PlayedContainer:
        played.append(PlayedContainer(programs, tmp_path / "volume", environment))
        return played[-1]

    yield play
    for container in played:
        if container.running:
            container.kill()


def test_a_container_without_tokens_says_what_it_takes(
    play: Callable[..., PlayedContainer],
) -> None:
    container = play({})
    with pytest.raises(AssertionError, match="--tokens"):
        container.start()


async def test_a_container_that_is_killed_loses_nothing_and_ends_when_it_is_told_to(
    play: Callable[..., PlayedContainer],
) -> None:
    container = play({"DURABLE_STREAMS_INSECURE": "true"})
    container.start()
    assert said("STOPSIGNAL") == "SIGTERM"
    report = await Run(container, PLAN).run(iter([0.3, 0.5]), javascript=0)
    assert report.faults == []
    assert report.counters.acknowledged > 0
    assert container.is_healthy()
    container.finish()
    assert not container.is_healthy()


@pytest.mark.parametrize("make", first_tokens(), ids=["compose", "kubernetes"])
def test_the_first_start_makes_a_token_that_no_log_has_and_later_ones_keep_it(
    make: list[str], play: Callable[..., PlayedContainer], tmp_path: Path
) -> None:
    container = play(TOKENS)
    for _ in range(2):
        made = container.run(make)
        assert made.returncode == 0, made.stderr
        file = tmp_path / "volume" / "first-token"
        token = file.read_text().strip()
        assert token.startswith("dst_")
        assert token not in made.stdout + made.stderr
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        container.start()
        assert container.is_healthy()
        assert request("PUT", container.url("a"), b"")[0] == 401
        shown = {"Authorization": f"Bearer {token}", "Content-Type": "text/plain"}
        create = urllib.request.Request(container.url("a"), b"", shown, method="PUT")
        with urllib.request.urlopen(create) as answer:
            assert answer.status in {200, 201}
        container.finish()
    assert (tmp_path / "volume" / "tokens.toml").read_text().count("[[token]]") == 1


@pytest.mark.needs("caddy", "curl")
def test_caddy_of_compose_has_a_certificate_and_passes_tokens_on(
    play: Callable[..., PlayedContainer], tmp_path: Path
) -> None:
    container = play(services()["streams"]["environment"])
    assert container.run(first_tokens()[0]).returncode == 0
    container.start()
    token = container.first_token["Authorization"].removeprefix("Bearer ")
    place = tmp_path / "caddy"
    with container.behind_caddy(place) as authority:
        url = container.url("a")
        asking = [
            "curl",
            "-sS",
            "--cacert",
            authority,
            "-o",
            str(place / "got"),
            "-w",
            "%{json}",
        ]
        answers = []
        for shown in ([], [f"-HAuthorization: Bearer {token}"]):
            create = [
                *asking,
                *shown,
                "-X",
                "PUT",
                "-HContent-Type: text/plain",
                "-d",
                "hello",
                url,
            ]
            run = subprocess.run(create, capture_output=True, text=True, check=True)
            answers.append(json.loads(run.stdout)["response_code"])
    assert answers == [401, 201]
    assert token not in (place / "log").read_text()
    container.finish()


def test_the_image_has_nobodys_user_and_nothing_of_the_clone_but_what_the_wheel_is_made_of() -> (
    None
):
    names = [name for name, _ in instructions()]
    assert said("USER") == "10001:10001"
    assert [rest for name, rest in instructions() if name == "COPY"] == [
        "--from=build /opt/durable-streams /opt/durable-streams"
    ]
    assert "10001 -g 10001" in said("RUN")
    assert names.index("USER") < names.index("ENTRYPOINT")
    kept = [
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    assert kept == ["durable_streams", "pyproject.toml", "README.rst", "LICENSE"]


def test_what_goes_into_the_image_builds(tmp_path: Path) -> None:
    """A wheel is made of it, as ``pip install /src`` does."""
    for name in ("durable_streams", "pyproject.toml", "README.rst", "LICENSE"):
        subprocess.run(["cp", "-r", ROOT / name, tmp_path], check=True)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
    run = subprocess.run(
        [*build, tmp_path / "out", tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(list((tmp_path / "out").glob("*.whl"))) == 1


def environments() -> list[Mapping[str, str]]:
    pod = resource("StatefulSet")["spec"]["template"]["spec"]
    given = {each["name"]: each["value"] for each in pod["containers"][0]["env"]}
    return [given, services()["streams"]["environment"]]


def test_all_settings_that_are_given_exist() -> None:
    image = dict(rest.split("=", 1) for name, rest in instructions() if name == "ENV")
    known = {f"DURABLE_STREAMS_{setting.name.upper()}" for setting in options.known()}
    for given in (image, *environments()):
        names = {name for name in given if name.startswith("DURABLE_STREAMS_")}
        assert names
        assert names <= known


def test_compose_has_such_services(tmp_path: Path) -> None:
    """By the schema of Compose files; it would notice a word that there is not."""
    check = [str(HERE / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    told = (CONTAINER / "compose.yaml").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(filled_in(told, {"stop_grace_period: 1m": "stop_grace_periods: 1m"}))
    for file, status in ((CONTAINER / "compose.yaml", 0), (other, 1)):
        run = subprocess.run([*check, file], capture_output=True, text=True, check=False)
        assert run.returncode == status, run.stdout + run.stderr


@pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
def test_kubernetes_has_such_resources(version: str) -> None:
    kinds = []
    for found in resources():
        if found["kind"] != "ServiceMonitor":  # which the Prometheus operator has, not Kubernetes
            kubernetes_validate.validate(found, version, strict=True)
            kinds.append(found["kind"])
    assert set(kinds) == {"Service", "StatefulSet", "PodDisruptionBudget", "NetworkPolicy"}


def test_the_resources_mean_each_other() -> None:
    stateful_set = resource("StatefulSet")["spec"]
    pod = stateful_set["template"]["spec"]
    labels = stateful_set["template"]["metadata"]["labels"]
    (server,) = pod["containers"]
    ports = {port["name"] for port in server["ports"]}
    service = resource("Service")
    assert stateful_set["serviceName"] == service["metadata"]["name"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    monitor = resource("ServiceMonitor")["spec"]
    assert {each["port"] for each in monitor["endpoints"]} <= ports
    rules = resource("NetworkPolicy")["spec"]["ingress"]
    assert {port["port"] for rule in rules for port in rule["ports"]} == ports
    selecting = [
        stateful_set["selector"]["matchLabels"],
        service["spec"]["selector"],
        monitor["selector"]["matchLabels"],
        service["metadata"]["labels"],
        resource("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        resource("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
    ]
    assert all(each == labels for each in selecting)
    assert pod["enableServiceLinks"] is False
    probes = [server[f"{name}Probe"] for name in ("startup", "liveness", "readiness")]
    assert {probe["httpGet"]["port"] for probe in probes} <= ports


@pytest.mark.needs("caddy")
async def test_compose_loses_nothing_behind_caddy_when_its_server_is_killed(
    play: Callable[..., PlayedContainer], tmp_path: Path
) -> None:
    container = play(services()["streams"]["environment"])
    assert container.run(first_tokens()[0]).returncode == 0
    container.start()
    with container.behind_caddy(tmp_path / "caddy") as authority:
        trusting = ssl.create_default_context(cafile=authority)
        report = await Run(container, PLAN).run(
            iter([0.3, 0.5]),
            javascript=0,
            connector=aiohttp.TCPConnector(limit=0, ssl=trusting),
            headers=container.first_token,
        )
    assert report.faults == []
    assert report.counters.acknowledged > 0
    container.finish()


async def test_what_a_pod_runs_loses_nothing_when_it_is_killed_and_is_found_well_and_counted(
    play: Callable[..., PlayedContainer],
) -> None:
    (server,) = pod()["containers"]
    assert server["args"] == json.loads(said("CMD"))
    metrics = f"127.0.0.1:{free_port()}"
    given = {each["name"]: each["value"] for each in server["env"]}
    container = play(given | {"DURABLE_STREAMS_METRICS_LISTEN": metrics})
    assert container.run(pod()["initContainers"][0]["command"]).returncode == 0
    container.start()
    report = await Run(container, PLAN).run(
        iter([0.3, 0.5]), javascript=0, headers=container.first_token
    )
    assert report.faults == []
    assert report.counters.acknowledged > 0
    for name in ("startup", "liveness", "readiness"):
        asked = server[f"{name}Probe"]["httpGet"]
        assert request("GET", f"{container.base_url}{asked['path']}")[0] == 200
    (endpoint,) = resource("ServiceMonitor")["spec"]["endpoints"]
    status, told = request("GET", f"http://{metrics}{endpoint['path']}")
    assert (status, b"durable_streams_" in told) == (200, True)
    container.finish()

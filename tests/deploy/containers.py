"""What ``deploy/container`` and ``deploy/kubernetes`` say, and a container played without any.

Its programs are those of the wheel, its ``/data`` is a directory, and what an image would run is
run with the environment that the image has.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.caches.running import filled_in, listening
from tests.programs import free_port
from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

CONTAINER: Final = ROOT / "deploy" / "container"
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
_PROGRAMS: Final = "/opt/durable-streams/bin"


def instructions() -> list[tuple[str, str]]:
    """Those of the image that is kept, in order."""
    text = (CONTAINER / "Containerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]
    begins = [number for number, (name, _) in enumerate(pairs) if name == "FROM"]
    return pairs[begins[-1] :]


def said(name: str) -> str:
    """The one instruction of this name."""
    (found,) = [rest for other, rest in instructions() if other == name]
    return found


def resources() -> list[dict[str, Any]]:
    """What ``kubectl apply`` is given."""
    files = sorted(KUBERNETES.glob("*.yaml"))
    return [found for file in files for found in yaml.safe_load_all(file.read_text())]


def resource(kind: str) -> dict[str, Any]:
    (found,) = [found for found in resources() if found["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    """What the StatefulSet has run."""
    found: dict[str, Any] = resource("StatefulSet")["spec"]["template"]["spec"]
    return found


def services() -> dict[str, dict[str, Any]]:
    """Those of compose."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())[
        "services"
    ]
    return found


def first_tokens() -> list[list[str]]:
    """What makes the first token, in compose and in Kubernetes."""
    service = services()["first-token"]
    return [
        [*service["entrypoint"], *service["command"]],
        pod()["initContainers"][0]["command"],
    ]


def wait_until_it_has_a_certificate(port: int) -> None:
    """Return when a handshake goes through.

    Caddy listens first, and makes the certificate afterwards: handshakes fail meanwhile.
    """
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    while True:
        with socket.create_connection(("127.0.0.1", port)) as tcp, suppress(ssl.SSLError):
            anybody.wrap_socket(tcp, server_hostname="localhost").close()
            return
        time.sleep(0.01)


class PlayedContainer(ServerProcess):
    """A container of the image whose ``/data`` is a directory here.

    ``programs``: where the wheel was installed.  ``environment``: what it is given beside what the
    image has.
    """

    def __init__(self, programs: Path, data: Path, environment: Mapping[str, str]) -> None:
        super().__init__(data / "streams", programs=programs)
        data.mkdir(exist_ok=True)
        self._log_path = data.parent / "stderr"
        self._data = data
        image = dict(rest.split("=", 1) for name, rest in instructions() if name == "ENV")
        self._environment = image | dict(environment)

    def played(self, command: Sequence[str]) -> list[str]:
        """What runs here when this would in the container."""
        told = [f"{name}={value}" for name, value in self._environment.items()]
        words = ["env", "--ignore-environment", *told, *command]
        return [
            re.sub(r"(?<![\w/])/data\b", str(self._data), word).replace(
                _PROGRAMS, str(self.programs)
            )
            for word in words
        ]

    def run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.played(command), capture_output=True, text=True, check=False, cwd=self._data
        )

    @property
    def first_token(self) -> dict[str, str]:
        """The header that shows it."""
        token = (self._data / "first-token").read_text().strip()
        return {"Authorization": f"Bearer {token}"}

    def is_healthy(self) -> bool:
        """What the image's health check finds."""
        command = json.loads(said("HEALTHCHECK").partition("CMD ")[2])
        port = str(self.port)
        return self.run([word.replace("4437", port) for word in command]).returncode == 0

    @contextmanager
    def behind_caddy(self, place: Path) -> Iterator[str]:
        """Run the Caddy of compose before it; gives the certificate that its clients trust."""
        place.mkdir()
        port = free_port()
        values = {
            "streams:4437": f"127.0.0.1:{self.port}",
            # Its other listeners: of what configures it, and of what leads from http to https.
            "\tskip_install_trust": "\tskip_install_trust\n\tadmin off\n"
            "\tauto_https disable_redirects",
        }
        (place / "Caddyfile").write_text(filled_in((CONTAINER / "Caddyfile").read_text(), values))
        own = {"HOME": str(place), "XDG_DATA_HOME": str(place), "SITE": f"localhost:{port}"}
        told = ["run", "--config", str(place / "Caddyfile"), "--adapter", "caddyfile"]
        with listening("caddy", told, place, port, **own):
            wait_until_it_has_a_certificate(port)
            self.front = f"https://localhost:{port}"
            yield str(place / "caddy" / "pki" / "authorities" / "local" / "root.crt")
        self.front = ""

    def _command(self) -> list[str]:
        port = ["--port", str(self.port)]
        return self.played([*json.loads(said("ENTRYPOINT")), *json.loads(said("CMD")), *port])

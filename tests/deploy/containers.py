"""What ``deploy/container`` and ``deploy/kubernetes`` say, and a container played without any.

Its programs are those of the wheel, its ``/data`` is a directory, and what an image would run is
run with the environment that the image has.
"""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any, Final

import yaml

from tools.server_process import ROOT, ServerProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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


def services() -> dict[str, dict[str, Any]]:
    """Those of compose."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((CONTAINER / "compose.yaml").read_text())[
        "services"
    ]
    return found


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

    def is_healthy(self) -> bool:
        """What the image's health check finds."""
        command = json.loads(said("HEALTHCHECK").partition("CMD ")[2])
        port = str(self.port)
        return self.run([word.replace("4437", port) for word in command]).returncode == 0

    def _command(self) -> list[str]:
        port = ["--port", str(self.port)]
        return self.played([*json.loads(said("ENTRYPOINT")), *json.loads(said("CMD")), *port])

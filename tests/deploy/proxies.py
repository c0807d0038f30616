"""nginx, Caddy and HAProxy as operators run them: with what ``docs/proxies.rst`` says.

What the documentation leaves to the operator, ports and places, is filled in here.  All run in the
foreground, on the loopback interface, with all their files in one directory.
"""

from __future__ import annotations

import json
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests import certificates
from tests.caches.running import filled_in, in_nginx_conf, listening
from tests.documents import blocks_of
from tests.programs import free_port
from tools.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

NAME: Final = "streams.example"
PROGRAMS: Final = ("nginx", "caddy", "haproxy")
_ORIGIN: Final = "127.0.0.1:4437"
_CERTIFICATE: Final = "/etc/ssl/streams.pem"
_KEY: Final = "/etc/ssl/streams.key"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy runs: its directory and port, its certificate, and the server's port."""

    directory: Path
    port: int
    files: certificates.Files
    origin_port: int

    @property
    def origin(self) -> str:
        return f"127.0.0.1:{self.origin_port}"


def _told(title: str) -> str:
    """The block of the document that is under this caption, or in this language."""
    (block,) = [b for b in blocks_of("docs/proxies.rst") if title in {b.name, b.language}]
    return f"{block.code}\n"


def _nginx(place: Place) -> list[str]:
    values = {
        "listen 443 ": f"listen 127.0.0.1:{place.port} ",
        _CERTIFICATE: str(place.files.certificate),
        _KEY: str(place.files.key),
        "/var/log/nginx/streams.log": str(place.directory / "access"),
        "/var/log/nginx/streams-errors.log": str(place.directory / "errors"),
        "/var/cache/nginx/streams": str(place.directory / "cache"),
        _ORIGIN: place.origin,
    }
    return in_nginx_conf(place.directory, filled_in(_told("nginx"), values))


def _caddy(place: Place) -> list[str]:
    values = {
        f"\n{NAME} {{": f"\n{NAME}:{place.port} {{\n    bind 127.0.0.1",
        _CERTIFICATE: str(place.files.certificate),
        _KEY: str(place.files.key),
        "/var/log/caddy/streams.log": str(place.directory / "access"),
        _ORIGIN: place.origin,
        # Its other listeners: of what configures it, and of what leads from http to https.
        "\n{\n": "\n{\n    admin off\n    auto_https disable_redirects\n",
    }
    configuration = place.directory / "Caddyfile"
    configuration.write_text(filled_in(_told("Caddyfile"), values))
    return ["run", "--config", str(configuration), "--adapter", "caddyfile"]


def _haproxy(place: Place) -> list[str]:
    both = place.directory / "both.pem"
    both.write_bytes(place.files.certificate.read_bytes() + place.files.key.read_bytes())
    values = {
        "bind :443 ": f"bind 127.0.0.1:{place.port} ",
        "/etc/haproxy/streams.pem": str(both),
        _ORIGIN: place.origin,
    }
    asked = f"global\n    stats socket {place.directory}/asked\n\n"
    configuration = place.directory / "haproxy.cfg"
    configuration.write_text(asked + filled_in(_told("haproxy.cfg"), values))
    return ["-db", "-f", str(configuration)]


_COMMANDS: Final[dict[str, Callable[[Place], list[str]]]] = {
    "nginx": _nginx,
    "caddy": _caddy,
    "haproxy": _haproxy,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, with the version of HTTP that it came by, its header names in lower case."""

    version: str
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that runs, and how it is asked."""

    program: str
    place: Place
    headers: dict[str, str] = field(default_factory=dict)
    """What goes with each request."""

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.place.port}"

    @property
    def logs(self) -> str:
        """All that it has written, but for what it is told and what it keeps."""
        names = ("log", "access", "errors")
        files = [self.place.directory / name for name in names]
        return "".join(file.read_text() for file in files if file.exists())

    def curl(self, url: str, *options: str) -> list[str]:
        """A command that asks it."""
        reached = ["--resolve", f"{NAME}:{self.place.port}:127.0.0.1"]
        trusted = ["--cacert", str(self.place.files.certificate)]
        headers = [f"-H{name}: {value}" for name, value in self.headers.items()]
        whole = url if url.startswith("https://") else self.url + url
        return ["curl", "-sSN", "--http2", *reached, *trusted, *headers, *options, whole]

    def ask(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request, by HTTP/2 where the proxy has it; ``url`` may be a path."""
        head = self.place.directory / "head"
        received = self.place.directory / "received"
        received.write_bytes(b"")
        options = [f"-H{name}: {value}" for name, value in (headers or {}).items()]
        options += ["--head"] if method == "HEAD" else ["-X", method]
        options += [] if body is None else ["-HExpect:", "--data-binary", "@-"]
        options += ["-D", str(head), "-o", str(received), "-w", "%{json}"]
        run = subprocess.run(self.curl(url, *options), input=body, capture_output=True, check=False)
        assert run.returncode == 0, run.stderr.decode()
        said = json.loads(run.stdout)
        lines = [line.partition(":") for line in head.read_text().splitlines()[1:]]
        fields = {name.lower(): value.strip() for name, mark, value in lines if mark}
        content = b"" if method == "HEAD" else received.read_bytes()
        return Answer(said["http_version"], said["response_code"], fields, content)

    def of_haproxy(self, name: str) -> str:
        """What HAProxy says of the server.

        ``check_status`` is what it found when it last asked; empty: it has not asked yet.
        ``status`` is whether it sends requests on: ``UP`` or ``DOWN``, and how sure it is.
        """
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.place.directory / "asked"))
            asking.sendall(b"show stat json\n")
            with asking.makefile() as answer:
                told = json.load(answer)
        rows = [{f["field"]["name"]: f["value"]["value"] for f in row} for row in told]
        (found,) = [row.get(name, "") for row in rows if row["svname"] == "one"]
        return str(found)

    def sends_on(self) -> bool:
        """Whether requests come to the server, if that is up.

        HAProxy finds out by its own checks, seconds afterwards when the server was down for long.
        """
        return self.program != "haproxy" or self.of_haproxy("status").startswith("UP")


class FrontedServer(ServerProcess):
    """A server whose clients come by a proxy, once there is one."""

    proxy: Proxy | None = None

    def start(self) -> None:
        """Return when its clients reach it."""
        super().start()
        while self.proxy is not None and not self.proxy.sends_on():
            time.sleep(0.01)


@contextmanager
def running(program: str, directory: Path, origin_port: int) -> Iterator[Proxy]:
    """Run a proxy in front of the server at ``origin_port``."""
    directory.mkdir()
    files = certificates.made_in(directory, host=NAME)
    place = Place(directory, free_port(), files, origin_port)
    own = {"HOME": str(directory), "XDG_DATA_HOME": str(directory)}
    with listening(program, _COMMANDS[program](place), directory, place.port, **own):
        yield Proxy(program, place)

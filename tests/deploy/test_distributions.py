"""The wheel and the source distribution: what is in them, and that they do where they come to."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from email import message_from_string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from durable_streams.version import __version__
from tests.documents import blocks_of
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conftest import StartServer

MADE_BY_BUILDING = {"PKG-INFO"}
TELLS_ITS_VERSION = f"durable-streams {__version__}\n"
HERE = Path(sys.executable).parent
PIPS_INDEX = re.compile(r"^(?:global|user|site|:env:)\.index-url='(.+)'$", re.MULTILINE)


def done(
    *command: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """What a program that ends well prints.  ``environment``: what it is told beside ours."""
    run = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_wheel_says_what_it_is_and_has_the_licence_and_the_package_alone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = next(name for name in names if name.endswith(".dist-info/METADATA"))
        said = message_from_string(archive.read(info).decode())
        licence = archive.read(info.replace("METADATA", "licenses/LICENSE")).decode()
    assert said["Version"] == __version__
    assert said["License-Expression"] == "Apache-2.0"
    assert licence == (ROOT / "LICENSE").read_text()
    assert said.get_all("Project-URL")
    assert said.get_payload() == (ROOT / "README.rst").read_text()
    package = ROOT / "durable_streams"
    files = (*package.rglob("*.py"), *(package / "http" / "console_page").iterdir())
    ours = {str(path.relative_to(ROOT)) for path in files}
    packed = {name for name in names if not name.startswith("durable_streams_server-")}
    assert packed == ours | {"durable_streams/py.typed"}


def test_the_source_distribution_is_the_repository(distributions: Path) -> None:
    """So whoever packs it for a system can run the tests; and nobody's streams are in it."""
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        files = {member.name.partition("/")[2] for member in archive if member.isfile()}
    packed = {name for name in files if ".egg-info/" not in name} - MADE_BY_BUILDING
    if not (ROOT / ".git").exists():
        pytest.skip("NOT TESTED, whether all files are in it: this is no clone")
    kept = done("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    assert packed == set(kept.splitlines())


def test_the_tests_run_where_the_source_distribution_was_unpacked(
    distributions: Path, tmp_path: Path
) -> None:
    (path,) = distributions.glob("*.tar.gz")
    done("tar", "-xf", path, "-C", tmp_path)
    (unpacked,) = tmp_path.iterdir()
    told = done(sys.executable, "-m", "pytest", "-q", "tests/model", cwd=unpacked)
    assert " passed" in told
    where = "import durable_streams; print(durable_streams.__file__)"
    assert done(sys.executable, "-c", where, cwd=unpacked).startswith(str(unpacked))


def index_of_pip() -> dict[str, str]:
    """What tells uv to get packages from where pip was configured to."""
    said = PIPS_INDEX.search(done(sys.executable, "-m", "pip", "config", "list"))
    return {"UV_DEFAULT_INDEX": said[1]} if said else {}


@pytest.mark.parametrize("name", ["durable-streams-server", "durable-streams"])
def test_the_programs_of_the_wheel_say_which_version_they_are(programs: Path, name: str) -> None:
    """``uvx`` and ``pipx run`` look for one that is called as the distribution."""
    assert done(programs / name, "--version") == TELLS_ITS_VERSION


def test_the_package_is_run_as_a_module_too(programs: Path, tmp_path: Path) -> None:
    python = programs / "python"
    assert done(python, "-m", "durable_streams", "--version", cwd=tmp_path) == TELLS_ITS_VERSION


def test_the_source_distribution_installs(distributions: Path, tmp_path: Path) -> None:
    """With the other installer, in an environment that has nothing else; pip has the wheel."""
    (path,) = distributions.glob("*.tar.gz")
    programs = tmp_path / "new" / "bin"
    done(HERE / "uv", "venv", "--quiet", "--python", sys.executable, tmp_path / "new")
    install = [HERE / "uv", "pip", "install", "--quiet", "--python", programs / "python", path]
    done(*install, environment=index_of_pip())
    assert done(programs / "durable-streams-server", "--version") == TELLS_ITS_VERSION
    code = "import durable_streams as d; print(d.__file__)"
    assert done(programs / "python", "-c", code, cwd=tmp_path).startswith(str(tmp_path))


def test_each_block_of_the_page_is_run_by_a_test() -> None:
    """What is about systemd by ``test_booted.py``, the others here."""
    begins = [block.code.split()[:2] for block in blocks_of("docs/deployment.rst")]
    assert begins == [
        ["python3", "-m"],
        ["uvx", "--from"],
        ["pip", "uninstall"],
        ["install", "-m"],
        ["systemd-run", "--pipe"],
        ["[Service]", "DynamicUser=no"],
        ["systemctl", "stop"],
    ]


def without_an_environment() -> list[str]:
    """The commands of the page that install nothing."""
    blocks = [block.code for block in blocks_of("docs/deployment.rst")]
    (found,) = [code for code in blocks if code.startswith("uvx")]
    return found.splitlines()


@pytest.mark.parametrize("command", without_an_environment(), ids=["uvx", "pipx"])
def test_what_needs_no_environment_serves(
    distributions: Path, command: str, tmp_path: Path
) -> None:
    """Where pip gets packages from, they do."""
    environment = {
        **os.environ,
        **index_of_pip(),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIPX_HOME": str(tmp_path / "pipx"),
        "UV_PYTHON": sys.executable,
        "PIPX_DEFAULT_PYTHON": sys.executable,
    }
    serving = f"exec {command} --port 0 --data-dir {tmp_path / 'data'}"
    with subprocess.Popen(
        ["bash", "-c", serving],
        cwd=distributions,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        os.killpg(process.pid, signal.SIGTERM)
        process.stdout.read()  # to its end, which is the server's
    assert told.startswith(f"{TELLS_ITS_VERSION.strip()}: listening on http://127.0.0.1:")
    assert done(HERE / "durable-streams", "verify", tmp_path / "data").endswith(": sound\n")


def block_of_the_readme() -> str:
    """The commands that install into an environment of one's own."""
    text = (ROOT / "README.rst").read_text()
    (found,) = re.findall(r"^(?:    python3 -m venv .*\n)(?:    .*\n)+", text, re.MULTILINE)
    return textwrap.dedent(str(found))


def test_what_the_readme_says_of_an_environment_of_one_s_own_serves(
    wheel: Path, tmp_path: Path
) -> None:
    """All of it, but for the wheel that stands for the clone, and the port."""
    install, _, serve = block_of_the_readme().rstrip().rpartition("\n")
    assert install.count("pip install .  ") == 1
    install = install.replace("pip install .  ", f"pip --quiet install {wheel}  ")
    assert serve == "python -m durable_streams serve --data-dir ./data"
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))  # what pip has already
    places = [f"{sys.base_prefix}/bin", os.environ["PATH"]]
    own = {"HOME": str(tmp_path), "XDG_CACHE_HOME": cache, "PATH": os.pathsep.join(places)}
    with subprocess.Popen(
        ["bash", "-euc", f"{install}\nexec {serve} --port 0"],
        cwd=tmp_path,
        env={**os.environ, **own},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = process.stdout.readline()
        process.terminate()
    assert told.startswith(f"{TELLS_ITS_VERSION.strip()}: listening on http://127.0.0.1:")
    assert process.returncode == 0
    assert (tmp_path / "data").is_dir()


def test_the_changelog_begins_with_this_version() -> None:
    newest = (ROOT / "CHANGELOG.rst").read_text().splitlines()[3]
    release, development, _ = __version__.partition(".dev")
    when = "not yet released" if development else r"\d{4}-\d{2}-\d{2}"
    assert re.fullmatch(f"{re.escape(release)}, {when}", newest)


def test_what_was_installed_is_what_the_wheel_has(programs: Path, tmp_path: Path) -> None:
    code = "import durable_streams as d; print(d.__version__, d.__file__)"
    version, where = done(programs / "python", "-W", "error", "-c", code, cwd=tmp_path).split()
    assert version == __version__
    assert where.startswith(str(programs.parent))


def test_the_client_whose_package_has_our_name_is_noticed_and_what_is_said_mends_it(
    wheel: Path, tmp_path: Path
) -> None:
    python = tmp_path / "shared" / "bin" / "python"
    done(sys.executable, "-m", "venv", tmp_path / "shared")

    def pip(verb: str, *arguments: object) -> None:
        done(python, "-m", "pip", "--disable-pip-version-check", "--quiet", verb, *arguments)

    def told_at_a_start() -> str:
        serve = [str(python), "-m", "durable_streams", "serve", "--host", "192.0.2.1"]
        run = subprocess.run(serve, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 2  # no machine has that address
        *before, last = run.stderr.splitlines()
        assert "192.0.2.1" in last
        return "\n".join(before)

    pip("install", wheel)
    assert "WARNING" not in told_at_a_start()
    pip("install", "durable-streams")
    assert "a client by other authors, is installed here as well" in told_at_a_start()
    pip("uninstall", "--yes", "durable-streams")
    assert "has lost its __init__.py" in told_at_a_start()
    pip("install", "--force-reinstall", "--no-deps", wheel)
    assert "WARNING" not in told_at_a_start()


def test_the_servers_of_the_recipes_are_of_the_wheel(
    start_server: StartServer, programs: Path
) -> None:
    """None of their modules is the checkout's: what they have open says so."""
    server = start_server()
    maps = Path(f"/proc/{server.pid}/maps").read_text()
    assert f"{programs.parent}/lib/" in maps  # compiled modules of what the wheel asks for
    assert str(ROOT) not in maps
    assert server.program[1:] == ["-W", "default", str(programs / "durable-streams-server")]

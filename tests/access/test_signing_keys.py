"""The file of signing keys: what it may say, where it may be, and new keys."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from durable_streams.access import signing_keys
from durable_streams.access.signing_keys import (
    MAX_KEYS,
    SigningKey,
    SigningKeysError,
    new_key,
    parse_keys,
    read_keys,
    refuse_inside,
    warning,
)
from durable_streams.access.small_files import FileProblem
from tools.server_process import ROOT

SECRET = base64.urlsafe_b64encode(b"\xff" * 32).decode()
FILE = Path("keys.toml")


def key(identity: str = "k1", secret: str = SECRET) -> str:
    return f'[[key]]\nid = "{identity}"\nsecret = "{secret}"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


@pytest.mark.parametrize("secret", [SECRET, SECRET.rstrip("=")])
def test_the_first_key_signs_and_all_are_known(secret: str) -> None:
    keys = parse_keys(FILE, (key("new", secret) + key("old")).encode())
    assert [one.id for one in keys.keys] == ["new", "old"]
    assert keys.keys[0] == keys.by_id["new"] == SigningKey("new", b"\xff" * 32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no key: make one by durable-streams signing-key new"),
        ("key = []", "has no key"),
        ("key = 1", "write [[key]]"),
        ("key = [1]", "key number 1 needs an id and a secret"),
        ("[[keys]]", "only [[key]] means anything"),
        (key() + "note = 1", "takes nothing else"),
        ('[[key]]\nid = "k"', "needs an id and a secret"),
        (key("a.b"), "key number 1 needs an id"),
        (key(""), "key number 1 needs an id"),
        (key("a" * 65), "key number 1 needs an id"),
        (f'[[key]]\nid = 1\nsecret = "{SECRET}"', "key number 1 needs an id"),
        ('[[key]]\nid = "k"\nsecret = 7', "key 'k': the secret is no text"),
        (key() + key(), "two keys have the same id"),
        (key(secret="SECRET"), "key 'k1': a secret is base64url of 32 to 1024 bytes"),
        (key(secret="SECRET" + "A" * 36 + "/+"), "a secret is base64url"),
        (key(secret="SECRET" + "A" * 38 + "!!!!"), "a secret is base64url"),
        (key(secret="SECRETAA" * 5 + "A"), "a secret is base64url"),
        (key(secret="SECRET" * 7), "a secret is base64url"),
        (key(secret="SECRET" * 250), "a secret is base64url"),
        (key(secret="SECRET\\n" + "A" * 40), "a secret is base64url"),
        ("SECRET SECRET", "it is not TOML"),
        ("".join(key(f"k{number}") for number in range(MAX_KEYS + 1)), "more than 100 keys"),
    ],
)
def test_what_it_may_not_say_and_no_secret_is_told(text: str, said: str) -> None:
    with pytest.raises(SigningKeysError) as caught:
        parse_keys(FILE, text.encode())
    told = str(caught.value)
    assert told.startswith("keys.toml")
    assert said in told
    assert "SECRET" not in told
    assert SECRET not in told


def test_a_key_shows_no_secret() -> None:
    keys = parse_keys(FILE, key().encode())
    assert "xff" not in f"{keys!r}"
    assert f"{keys.keys[0]}" == "SigningKey('k1')"


def test_a_new_key_comes_first_and_all_else_stays(path: Path) -> None:
    first = new_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text(f"# Signs what the web shows.\n\n{path.read_text()}# the end\n")
    old = path.read_text()
    second = new_key(path)
    keys = read_keys(path)
    assert [one.id for one in keys.keys] == [second, first]
    assert all(len(one.secret) == 32 for one in keys.keys)
    assert keys.keys[0].secret != keys.keys[1].secret
    head, _, tail = old.partition("\n\n")
    assert path.read_text().startswith(f"{head}\n\n[[key]]\n")
    assert path.read_text().endswith(tail)


def test_a_new_key_is_of_random_bytes(path: Path) -> None:
    assert new_key(path, lambda count: b"\xfb" * count) == "kfbfbfbfbfbfb"
    assert read_keys(path).keys[0].secret == b"\xfb" * 32


@pytest.mark.parametrize("text", ["[[key]]\n", f'key = [{{id = "a", secret = "{SECRET}"}}]'])
def test_a_file_that_is_no_good_or_laid_out_otherwise_is_not_changed(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(SigningKeysError):
        new_key(path)
    assert path.read_text() == text


def test_a_file_without_keys_yet_gets_its_first(path: Path) -> None:
    path.write_text("# keys\n")
    identity = new_key(path)
    assert read_keys(path).keys[0].id == identity
    assert path.read_text().startswith("# keys\n\n[[key]]")


# Where it may be


def test_it_does_not_lie_in_the_data_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    refuse_inside(tmp_path / "keys.toml", data)
    refuse_inside(tmp_path / "data-keys.toml", data)
    for inside in (data / "keys.toml", data / "sub" / "keys.toml", data / "sub" / ".." / "k"):
        with pytest.raises(SigningKeysError, match="in the data directory"):
            refuse_inside(inside, data)


def test_links_lead_nobody_past_that(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "keys.toml").write_text(key())
    (tmp_path / "to-file").symlink_to(data / "keys.toml")
    (tmp_path / "to-directory").symlink_to(data)
    (tmp_path / "outside.toml").write_text(key())
    (data / "out").symlink_to(tmp_path / "outside.toml")
    for path, directory in (
        (tmp_path / "to-file", data),
        (tmp_path / "to-directory" / "keys.toml", data),
        (data / "keys.toml", tmp_path / "to-directory"),
        (data / "out", data),
    ):
        with pytest.raises(SigningKeysError, match="in the data directory"):
            refuse_inside(path, directory)
    refuse_inside(tmp_path / "outside.toml", tmp_path / "to-directory")
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(SigningKeysError):
        refuse_inside(circle, data)


@pytest.mark.parametrize(
    ("mode", "is_warned"),
    [(0o600, False), (0o400, False), (0o640, False), (0o644, True), (0o620, True), (0o602, True)],
)
def test_a_file_that_others_read_or_change_is_warned_of(
    path: Path, mode: int, is_warned: bool
) -> None:
    path.write_text(key())
    path.chmod(mode)
    assert (warning(path) is not None) == is_warned


def test_nothing_is_warned_of_that_is_not_there(path: Path) -> None:
    assert warning(path) is None
    with pytest.raises(FileProblem):
        read_keys(path)


def test_secrets_are_as_random_as_the_system_can(path: Path) -> None:
    """Two processes that begin alike make different keys."""
    script = (
        "import random, sys; from pathlib import Path; random.seed(1)\n"
        "from durable_streams.access.signing_keys import new_key\n"
        "new_key(Path(sys.argv[1]))"
    )
    for _ in range(2):
        subprocess.run([sys.executable, "-c", script, str(path)], cwd=ROOT, check=True)
    one, other = read_keys(path).keys
    assert one.secret != other.secret
    assert len(one.secret) == signing_keys.MIN_SECRET_BYTES

"""Signing keys: the file of them and its format, those in a database, and new keys.

It is TOML, in UTF-8, of at most ``MAX_FILE_BYTES``, with a table for each key::

    [[key]]
    id = "2027-01"  # 1 to 64 of A-Z, a-z, 0-9 and "-"; each only once
    secret = "dGhpcyBpcyBub3Qgb25l…"  # base64url of 32 to 1024 random bytes

The first one signs, and all are taken: a new key is put in front, and an old one removed when what
it has signed is over.  Anything else in the file is a :class:`SigningKeysError`, which never says a
secret.  Whoever has a key can sign what tokens may read, so the file lies outside of the data
directory, which is copied for backups (:func:`refuse_inside`).  All here is blocking code.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from durable_streams.access import tables_in_toml as toml
from durable_streams.access.followed_file import INTERVAL_S
from durable_streams.access.small_files import (
    FileProblem,
    edit_small,
    is_open_to_others,
    read_small,
)
from durable_streams.access.stored import Stored
from durable_streams.access.token_file import is_id
from durable_streams.postgres.key_rows import KeyRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

MAX_FILE_BYTES: Final = 256 * 1024
"""Of a hundred keys, with what people write beside them."""

MAX_KEYS: Final = 100

MIN_SECRET_BYTES: Final = 32
"""As much as HMAC-SHA256 makes use of (RFC 2104, section 3)."""

MAX_SECRET_BYTES: Final = 1024

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]{0,1400}={0,2}", re.ASCII)
_KEY_KEYS: Final = frozenset({"id", "secret"})


class SigningKeysError(FileProblem):
    """The file of signing keys is not what it has to be; one line says where, and what to do."""


class SigningKey(msgspec.Struct, frozen=True):
    """A key of signed URLs."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        """Without the secret."""
        return f"SigningKey({self.id!r})"


class SigningKeys(NamedTuple):
    """All keys; the first one signs.  A file has at least one."""

    keys: tuple[SigningKey, ...]
    by_id: Mapping[str, SigningKey]


class StoredKeys(Stored[KeyRow, SigningKeys]):
    """Those of a database, of which there may be none yet."""

    def __init__(self, *, interval_s: float = INTERVAL_S) -> None:
        nothing = SigningKeys((), {})
        super().__init__("signing keys", nothing, keys_of, interval_s=interval_s)


def read_keys(path: Path) -> SigningKeys:
    """Read the file; :class:`FileProblem`, mostly a :class:`SigningKeysError`, if it is no good."""
    return parse_keys(path, read_small(path, MAX_FILE_BYTES))


def parse_keys(path: Path, content: bytes) -> SigningKeys:
    """What the bytes of a file mean; ``path`` is for :class:`SigningKeysError`."""
    keys = _parsed(path, content)
    if not keys.keys:
        raise SigningKeysError(
            f"{path} has no key: make one by durable-streams signing-key new --signing-keys {path}"
        )
    return keys


def decode_secret(text: str) -> bytes:
    """The bytes of a secret as the file has it; ``ValueError``, without it, if it is none."""
    wanted = f"base64url of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes"
    if _BASE64URL.fullmatch(text) is None:
        raise ValueError(f"a secret is {wanted}")
    bare = text.rstrip("=")
    try:
        secret = base64.urlsafe_b64decode(bare + "=" * (-len(bare) % 4))
    except binascii.Error:
        raise ValueError(f"a secret is {wanted}") from None
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(f"a secret is {wanted}")
    return secret


def keys_of(rows: Sequence[KeyRow]) -> SigningKeys:
    """What the rows of a database mean; :class:`SigningKeysError`."""
    try:
        tables = [row._asdict() for row in rows]
        keys = tuple(_key(table, number) for number, table in enumerate(tables, 1))
    except ValueError as error:
        raise SigningKeysError(f"the signing keys in the database: {error}") from None
    return SigningKeys(keys, {key.id: key for key in keys})


def add_checked(rows: Sequence[KeyRow]) -> None:
    """Look at all keys before one is added."""
    if len(rows) >= MAX_KEYS:
        raise SigningKeysError(f"there are {MAX_KEYS} keys: remove old ones")


def remove_checked(identity: str) -> Callable[[Sequence[KeyRow]], None]:
    """What looks at all keys before one is removed."""

    def look(rows: Sequence[KeyRow]) -> None:
        if identity not in [row.id for row in rows]:
            raise SigningKeysError(f"there is no key {identity[:64]!r}")

    return look


def made(random: Callable[[int], bytes] = secrets.token_bytes) -> KeyRow:
    """A new key; ``random`` makes so many bytes that nobody can guess."""
    secret = base64.urlsafe_b64encode(random(MIN_SECRET_BYTES)).rstrip(b"=").decode()
    return KeyRow(f"k{random(6).hex()}", secret)


def new_key(path: Path, random: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Put a new key in front of the others, durably; returns its id.

    The file is made if it is missing.  ``random``: as that of :func:`made`.
    """
    identity, secret = made(random)
    lines = toml.table("key", {"id": toml.quoted(identity), "secret": toml.quoted(secret)})
    wanted = SigningKey(identity, decode_secret(secret))

    def change(content: bytes | None) -> bytes:
        content = content or b""
        old = _parsed(path, content)
        new = toml.with_first(content.decode(), "key", lines).encode()
        try:
            keys = _parsed(path, new)
        except SigningKeysError as error:
            raise SigningKeysError(f"{error}; nothing was changed") from None
        if keys.keys != (wanted, *old.keys):
            raise SigningKeysError(f"{path} is written in a way that is not changed here: edit it")
        return new

    edit_small(path, change, max_bytes=MAX_FILE_BYTES)
    return identity


def remove_key(path: Path, identity: str) -> None:
    """Remove a key from the file, durably: what it has signed is refused from then on."""

    def change(content: bytes | None) -> bytes:
        content = content or b""
        old = _parsed(path, content).keys
        if identity not in [key.id for key in old]:
            raise SigningKeysError(f"{path} has no key {identity[:64]!r}")
        at = [key.id for key in old].index(identity)
        new = toml.without(content.decode(), "key", at).encode()
        left = (*old[:at], *old[at + 1 :])
        if not left:
            raise SigningKeysError(f"{path} has no other key: make a new one before")
        if _parsed(path, new).keys != left:
            raise SigningKeysError(f"{path} is written in a way that is not changed here: edit it")
        return new

    edit_small(path, change, max_bytes=MAX_FILE_BYTES)


def refuse_inside(path: Path, data_dir: Path) -> None:
    """Raise :class:`SigningKeysError` if the file, or a link to it, is in the data directory."""
    try:
        directory = data_dir.resolve()
        places = (path.resolve(), path.parent.resolve() / path.name)
    except (OSError, RuntimeError):  # the latter for links that lead in a circle
        raise SigningKeysError(f"{path} or {data_dir} leads nowhere") from None
    if any(place.is_relative_to(directory) for place in places):
        raise SigningKeysError(
            f"{path} is in the data directory, where every backup has it: put it elsewhere"
        )


def warning(path: Path) -> str | None:
    """What is wrong with the mode of the file, if anything; None if it cannot be looked at."""
    if not is_open_to_others(path):
        return None
    return f"{path} may be read or changed by others, who can sign then: chmod go-w,o-r {path}"


def _parsed(path: Path, content: bytes) -> SigningKeys:
    try:
        document = toml.read_toml(content)
        if document.keys() - {"key"}:
            raise ValueError("only [[key]] means anything: remove all else")
        tables = document.get("key", [])
        if not isinstance(tables, list):
            raise ValueError("key is not an array of tables: write [[key]]")  # noqa: TRY004
        if len(tables) > MAX_KEYS:
            raise ValueError(f"there are more than {MAX_KEYS} keys: remove old ones")
        keys = tuple(_key(table, number) for number, table in enumerate(tables, 1))
    except ValueError as error:
        raise SigningKeysError(f"{path}: {error}") from None
    by_id = {key.id: key for key in keys}
    if len(by_id) < len(keys):
        raise SigningKeysError(f"{path}: two keys have the same id: give one another id")
    return SigningKeys(keys, by_id)


def _key(table: Any, number: int) -> SigningKey:  # noqa: ANN401 - whatever the file has
    if not isinstance(table, dict) or table.keys() != _KEY_KEYS:
        raise ValueError(f"key number {number} needs an id and a secret, and takes nothing else")
    identity, secret = table["id"], table["secret"]
    if not isinstance(identity, str) or not is_id(identity):
        raise ValueError(f"key number {number} needs an id: 1 to 64 letters, digits and '-'")
    if not isinstance(secret, str):
        raise ValueError(f"key {identity!r}: the secret is no text")  # noqa: TRY004
    try:
        return SigningKey(identity, decode_secret(secret))
    except ValueError as error:
        raise ValueError(f"key {identity!r}: {error}") from None

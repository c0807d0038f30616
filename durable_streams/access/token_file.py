"""The file of tokens: its format, new tokens, and how it is changed.

It is TOML, in UTF-8, of at most ``MAX_FILE_BYTES``, with a table for each token::

    [[token]]
    id = "web"                           # 1 to 64 of A-Z, a-z, 0-9 and "-"; each only once
    sha256 = "9f86d081884c7d659a2f…"     # 64 hexadecimal digits; each only once
    expires = 2027-01-31T00:00:00Z       # optional: a date and time with its offset
    note = "the web front end"           # optional: at most 1024 characters

    [[token.grant]]                      # 1 to 64 of them
    scopes = ["read", "append"]          # at least one, see grants.Scope
    prefix = "chat"                      # or path = "…", or glob = "…": one of them, see grants

``sha256`` is that of the whole text that is sent behind ``Bearer``, so ``printf %s "$TOKEN" |
sha256sum`` makes it of a text of your own, which should be as hard to guess as ours.  Those that
are made here are ``dst_``, the id, ``_``, and 32 random bytes as 43 characters of base64url.  The
text itself is nowhere in the file.

Anything else is a :class:`TokenFileError`: other keys, in another type, or a token without grants.
A file without tokens is one that nobody can do anything with.  All here is blocking code.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import secrets
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import msgspec

from durable_streams.access import tables_in_toml as toml
from durable_streams.access.grants import Grant, Kind, Pattern, Scope
from durable_streams.access.principals import Principal
from durable_streams.access.small_files import Edited, FileProblem, edit_small, read_small
from durable_streams.model.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

MAX_FILE_BYTES: Final = 4 << 20
"""Ten thousand tokens of a few grants each."""

MAX_TOKENS: Final = 10_000
"""So many are read and parsed in about a second, and have to be known again within two."""

MAX_GRANTS: Final = 64
"""Of a token: each may be compared for every request."""

MAX_NOTE_CHARACTERS: Final = 1024

TOKEN_KIND: Final = "token"  # noqa: S105 - what a principal's name begins with

_SECRET_BYTES: Final = 32
_TEXT: Final = re.compile(r"dst_([A-Za-z0-9-]{1,64})_[A-Za-z0-9_-]{43}", re.ASCII)
_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{64}", re.ASCII)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_OF_NOTHING: Final = hashlib.sha256(b"").hexdigest()
_TOKEN_KEYS: Final = frozenset({"id", "sha256", "expires", "note", "grant"})
_GRANT_KEYS: Final = frozenset({"scopes", *(kind.value for kind in Kind)})

Random: TypeAlias = "Callable[[int], bytes]"
"""Makes so many bytes that nobody can guess."""


class TokenFileError(FileProblem):
    """The file of tokens is not what it has to be; one line says where, and what to do."""


class TokenRecord(msgspec.Struct, frozen=True):
    """A token as the file has it; ``digest``: SHA-256 of its text, in small hexadecimal digits."""

    id: str
    digest: str
    grants: tuple[Grant, ...]
    expires: datetime | None = None
    note: str = ""

    @property
    def expires_at_s(self) -> float:
        """When it ends, in seconds since 1970."""
        return math.inf if self.expires is None else self.expires.timestamp()

    @property
    def principal(self) -> Principal:
        """Who shows it."""
        return Principal(f"{TOKEN_KIND}:{self.id}", self.grants, self.expires_at_s, self.digest)

    def __repr__(self) -> str:
        """Without the digest, by which a text that is easy to guess could be found out."""
        return f"TokenRecord({self.id!r}, {grants_text(self.grants)!r})"


class TokenList(NamedTuple):
    """All tokens of a file, in its order, and by what they are looked up."""

    tokens: tuple[TokenRecord, ...]
    by_id: Mapping[str, TokenRecord]
    by_digest: Mapping[str, TokenRecord]


def is_id(text: str) -> bool:
    """Whether a text can be the id of a token, or of a signing key."""
    return _ID.fullmatch(text) is not None


def is_note(text: str) -> bool:
    """Whether a text can be the note of a token."""
    return len(text) <= MAX_NOTE_CHARACTERS and not _SURROGATE.search(text)


def digest_of(bearer: bytes) -> str:
    """What the file has of a token's text."""
    return hashlib.sha256(bearer).hexdigest()


def new_text(identity: str, random: Random = secrets.token_bytes) -> str:
    """The text of a new token."""
    secret = base64.urlsafe_b64encode(random(_SECRET_BYTES)).rstrip(b"=").decode()
    return f"dst_{identity}_{secret}"


def id_in(text: str) -> str | None:
    """The id that a token's text names, if it was made here."""
    match = _TEXT.fullmatch(text)
    return None if match is None else match[1]


def grants_text(grants: Sequence[Grant]) -> str:
    """What a token may do, for people: ``read append on prefix chat, read on path log``."""
    return ", ".join(
        f"{' '.join(_names(grant))} on {grant.pattern.kind.value} {grant.pattern.text!r}"
        for grant in grants
    )


def as_json(token: TokenRecord) -> dict[str, object]:
    """A token for programs, as JSON has it; without its digest."""
    return {
        "id": token.id,
        "note": token.note,
        "expires": None if token.expires is None else token.expires.isoformat(),
        "grants": [
            {"scopes": _names(grant), grant.pattern.kind.value: grant.pattern.text}
            for grant in token.grants
        ],
    }


def _names(grant: Grant) -> list[str]:
    return [scope.value for scope in Scope if scope in grant.scopes]


# -- reading -------------------------------------------------------------------------------


def read_tokens(path: Path) -> TokenList:
    """Read the file; :class:`FileProblem`, mostly a :class:`TokenFileError`, if it is no good."""
    return parse_tokens(path, read_small(path, MAX_FILE_BYTES))


def parse_tokens(path: Path, content: bytes) -> TokenList:
    """What the bytes of a file mean; ``path`` is for :class:`TokenFileError`."""
    try:
        return _parsed(toml.read_toml(content))
    except (toml.NotToml, _Wrong) as error:
        raise TokenFileError(f"{path}: {error}") from None


def tokens_of(rows: Iterable[tuple[str, str]]) -> TokenList:
    """Those that are kept elsewhere, as digest and what :func:`as_json` says; the same rules."""
    tables: list[dict[str, Any]] = []
    try:
        for digest, text in rows:
            table = msgspec.json.decode(text, type=dict[str, Any])
            grants, expires = table.pop("grants", None), table.pop("expires", None)
            table |= {"sha256": digest, "grant": grants}
            if expires is not None:
                table["expires"] = datetime.fromisoformat(expires)
            tables.append(table)
        return _parsed({"token": tables})
    except (_Wrong, ValueError, TypeError) as error:
        raise TokenFileError(f"the tokens in the database: {error}") from None


class _Wrong(ValueError):
    """Something in the file is not what it has to be."""


def _parsed(document: dict[str, Any]) -> TokenList:
    _refuse_unknown(document, frozenset({"token"}), "the file")
    tables = document.get("token", [])
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise _Wrong("token is not an array of tables: write [[token]]")
    if len(tables) > MAX_TOKENS:
        raise _Wrong(f"there are more than {MAX_TOKENS} tokens: revoke some")
    by_id: dict[str, TokenRecord] = {}
    by_digest: dict[str, TokenRecord] = {}
    for number, one in enumerate(tables, 1):
        token = _token(one, number)
        if token.id in by_id:
            raise _Wrong(f"there are two tokens with the id {token.id!r}: give one another id")
        if token.digest in by_digest:
            other = by_digest[token.digest].id
            raise _Wrong(f"the tokens {other!r} and {token.id!r} have the same sha256: remove one")
        by_id[token.id] = by_digest[token.digest] = token
    return TokenList(tuple(by_id.values()), by_id, by_digest)


def _token(table: dict[str, Any], number: int) -> TokenRecord:
    identity = table.get("id")
    if not isinstance(identity, str) or not is_id(identity):
        raise _Wrong(f"token number {number} needs an id: 1 to 64 letters, digits and '-'")
    where = f"token {identity!r}"
    _refuse_unknown(table, _TOKEN_KEYS, where)
    expires, note = table.get("expires"), table.get("note", "")
    if expires is not None and (not isinstance(expires, datetime) or expires.utcoffset() is None):
        raise _Wrong(f"{where}: expires is not a date and time with an offset, without quotes")
    if not isinstance(note, str) or not is_note(note):
        raise _Wrong(f"{where}: note is not a text of at most {MAX_NOTE_CHARACTERS} characters")
    return TokenRecord(identity, _digest(table, where), _grants(table, where), expires, note)


def _digest(table: dict[str, Any], where: str) -> str:
    digest = table.get("sha256")
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        raise _Wrong(f"{where}: sha256 is not 64 hexadecimal digits: those of sha256sum")
    digest = digest.lower()
    if digest == _OF_NOTHING:
        raise _Wrong(f"{where}: sha256 is that of an empty text: make it of the token's")
    return digest


def _grants(table: dict[str, Any], where: str) -> tuple[Grant, ...]:
    tables = table.get("grant")
    if not isinstance(tables, list) or not tables:
        raise _Wrong(f"{where} has no grant: give it one by [[token.grant]], or remove it")
    if len(tables) > MAX_GRANTS:
        raise _Wrong(f"{where} has more than {MAX_GRANTS} grants: join some, or make two tokens")
    return tuple(_grant(one, f"{where}, grant {number}") for number, one in enumerate(tables, 1))


def _grant(table: object, where: str) -> Grant:
    if not isinstance(table, dict):
        raise _Wrong(f"{where} is not a table: write [[token.grant]]")
    _refuse_unknown(table, _GRANT_KEYS, where)
    scopes = table.get("scopes")
    if not isinstance(scopes, list) or not all(isinstance(one, str) for one in scopes):
        raise _Wrong(f"{where}: scopes is not a list of texts")
    patterns = {kind: table[kind.value] for kind in Kind if kind.value in table}
    if not all(isinstance(text, str) for text in patterns.values()):
        raise _Wrong(f"{where}: path, prefix and glob are texts")
    try:
        return grant_of(scopes, patterns)
    except InvalidRequest as error:
        raise _Wrong(f"{where}: {error}") from None


def grant_of(scopes: Sequence[str], patterns: Mapping[Kind, str]) -> Grant:
    """A grant by the texts that people write; :class:`InvalidRequest` says what is wrong."""
    known = {scope.value: scope for scope in Scope}
    unknown = [scope for scope in scopes if scope not in known]
    if unknown:
        raise InvalidRequest(f"{unknown[0][:32]!r} is no scope: give some of {', '.join(known)}")
    if not scopes:
        raise InvalidRequest(f"a grant needs scopes: some of {', '.join(known)}")
    if len(patterns) != 1:
        raise InvalidRequest("a grant needs one of path, prefix and glob")
    [(kind, text)] = patterns.items()
    return Grant(frozenset(known[scope] for scope in scopes), Pattern.parse(kind, text))


def _refuse_unknown(table: dict[str, Any], known: frozenset[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise _Wrong(f"{where} has {unknown[0][:64]!r}, which means nothing: remove it")


# -- changing ------------------------------------------------------------------------------


class TokenExists(TokenFileError):
    """There is a token with that id."""


class NoSuchToken(TokenFileError):
    """There is no token with that id."""


def add_token(
    path: Path, token: TokenRecord, allow: Callable[[TokenList], None] = lambda _: None
) -> Edited[TokenList, TokenRecord]:
    """Write a token behind the others; durable when it returns.  The file is made if it is missing.

    ``allow`` is called with the tokens that are there, and may raise.
    """

    def changed(old: str, tokens: TokenList) -> tuple[str, tuple[TokenRecord, ...]]:
        allow(tokens)
        if token.id in tokens.by_id:
            raise TokenExists(f"{path}: there is a token {token.id!r}: use another id")
        return toml.with_last(old, _lines(token)), (*tokens.tokens, token)

    return _edited(path, changed, token)


def remove_token(
    path: Path, identity: str, allow: Callable[[TokenList], None] = lambda _: None
) -> Edited[TokenList, str]:
    """Remove a token; durable when it returns.  ``allow``: as that of :func:`add_token`."""

    def changed(old: str, tokens: TokenList) -> tuple[str, tuple[TokenRecord, ...]]:
        allow(tokens)
        if identity not in tokens.by_id:
            raise NoSuchToken(f"{path}: there is no token {identity[:64]!r}")
        left = tuple(token for token in tokens.tokens if token.id != identity)
        index = tokens.tokens.index(tokens.by_id[identity])
        return toml.without(old, "token", index), left

    return _edited(path, changed, identity)


def _edited(
    path: Path,
    changed: Callable[[str, TokenList], tuple[str, tuple[TokenRecord, ...]]],
    told: Any,  # noqa: ANN401 - whatever the caller wants
) -> Edited[TokenList, Any]:
    """Change the text of the file, if what comes of it is what was meant."""
    made: list[TokenList] = []

    def change(content: bytes | None) -> bytes:
        content = content or b""
        text, wanted = changed(content.decode(), parse_tokens(path, content))
        new = text.encode()
        try:
            tokens = parse_tokens(path, new)
        except TokenFileError as error:
            raise TokenFileError(f"{error}; nothing was changed") from None
        if tokens.tokens != wanted:
            raise TokenFileError(f"{path} is written in a way that is not changed here: edit it")
        made.append(tokens)
        return new

    content = edit_small(path, change, max_bytes=MAX_FILE_BYTES)
    return Edited(content, made[-1], told)


def _lines(token: TokenRecord) -> list[str]:
    values = {"id": toml.quoted(token.id), "sha256": toml.quoted(token.digest)}
    if token.expires is not None:
        values["expires"] = token.expires.isoformat()
    if token.note:
        values["note"] = toml.quoted(token.note)
    lines = toml.table("token", values)
    for grant in token.grants:
        pattern = {grant.pattern.kind.value: toml.quoted(grant.pattern.text)}
        lines += [
            "",
            *toml.table("token.grant", {"scopes": toml.quoted_list(_names(grant)), **pattern}),
        ]
    return lines

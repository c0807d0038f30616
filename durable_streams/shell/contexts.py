"""Named places of streams, with their tokens: a small file in the XDG directory for configuration.

    use = "prod"

    [context.prod]
    streams = "https://example.org/v1/stream"
    auth = "dst_…"

Nobody else may read it (mode 0600), or it is refused; and no verb prints a token.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from durable_streams.access.small_files import (
    FileProblem,
    edit_small,
    read_small,
)
from durable_streams.access.tables_in_toml import NotToml, quoted, read_toml

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_BYTES: Final = 1024 * 1024
_OF_OTHERS: Final = 0o077
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


class ContextProblem(Exception):
    """What was asked of contexts cannot be; the text is one line for the user."""


@dataclass(frozen=True, slots=True)
class Context:
    """A place of streams, and who asks there."""

    streams: str
    auth: str | None = field(default=None, repr=False)


@dataclass(slots=True)
class Contexts:
    """All of them; ``use``: the one that counts if nothing else is said."""

    use: str | None = None
    by_name: dict[str, Context] = field(default_factory=dict)

    def get(self, name: str) -> Context:
        """One of them."""
        if name not in self.by_name:
            raise ContextProblem(f"there is no context {name[:64]!r}: see context list")
        return self.by_name[name]


def file() -> Path:
    """Where they are."""
    given = os.environ.get("XDG_CONFIG_HOME")
    base = Path(given) if given and Path(given).is_absolute() else Path.home() / ".config"
    return base / "durable-streams" / "contexts.toml"


def check_name(name: str) -> str:
    """A name that needs no quotes in a shell."""
    if not _NAME.fullmatch(name):
        raise ContextProblem(
            f"{name[:64]!r} is no name: use up to 64 letters, digits, dots, _ and -"
        )
    return name


def known() -> Contexts:
    """Those that there are."""
    path = file()
    if not path.exists():
        return Contexts()
    _check_mode(path)
    return _read(_checked(lambda: read_small(path, _MAX_BYTES)))


def change(how: Callable[[Contexts], None]) -> None:
    """Change them, whatever other programs do at the same time."""
    path = file()

    def changed(content: bytes | None) -> bytes:
        if content is not None:  # it keeps its mode, and may get a token
            _check_mode(path)
        found = _read(content or b"")
        how(found)
        return _written(found)

    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ContextProblem(f"{path.parent} cannot be made: {error.strerror}") from None
    _checked(lambda: edit_small(path, changed, max_bytes=_MAX_BYTES))


def _check_mode(path: Path) -> None:
    try:
        is_open = bool(path.stat().st_mode & _OF_OTHERS)
    except OSError:  # which whoever reads it tells
        return
    if is_open:
        raise ContextProblem(f"{path} may be read by others, and has tokens: chmod 600 {path}")


def _checked(do: Callable[[], bytes]) -> bytes:
    try:
        return do()
    except FileProblem as error:
        raise ContextProblem(str(error)) from None


def _read(content: bytes) -> Contexts:
    try:
        found: dict[str, Any] = read_toml(content)
        contexts = {
            check_name(name): Context(str(said["streams"]), said.get("auth"))
            for name, said in found.get("context", {}).items()
        }
    except (NotToml, KeyError, TypeError, AttributeError) as error:
        raise ContextProblem(f"{file()} is not as context add writes it: {error}") from None
    use = found.get("use")
    return Contexts(use if use in contexts else None, contexts)


def _written(contexts: Contexts) -> bytes:
    lines = [] if contexts.use is None else [f"use = {quoted(contexts.use)}", ""]
    for name, context in sorted(contexts.by_name.items()):
        lines += [f"[context.{quoted(name)}]", f"streams = {quoted(context.streams)}"]
        if context.auth is not None:
            lines.append(f"auth = {quoted(context.auth)}")
        lines.append("")
    return "\n".join(lines).encode()

"""Where a stream lives: stream paths as directory paths, reversible and readable.

A stream at ``chat/room-1`` is the directory ``streams/chat/room-1@``.  Per path segment:

- ``a-z 0-9 - _ .`` stand for themselves, except a leading ``.``;
- ``A-Z`` become ``+`` and the lower-case letter, so that nothing depends on the case of names;
- every other byte of the UTF-8 form, a slash too, becomes ``%xx`` (which also survives file
  systems that normalise Unicode); so does a leading ``.``: ``ls`` and globs see every stream;
- a name longer than ``_CHUNK`` is cut into a chain of directories that end in ``~``.

``@`` (a stream) and ``~`` (continued) are produced by no character, so a stream and a namespace
of the same name, or a long name and another stream, never meet.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durable_streams.model.paths import StreamPath

_CHUNK: Final = 240  # the file systems' limit is 255 bytes a name; room for a suffix
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")
_STREAM: Final = "@"
_CONTINUED: Final = "~"
_AS_IT_IS: Final = re.compile(r"[a-z0-9_-][a-z0-9._-]{0,239}", re.ASCII)
_UNIT: Final = re.compile(r"%([0-9a-f]{2})|\+([a-z])|([a-z0-9._-])", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{24}", re.ASCII)
_FILE: Final = re.compile(r"([0-9]{16})-([0-9a-f]{24})\.(seg|idx)", re.ASCII)

SIDECAR: Final = "meta.json"


def _units(segment: str) -> list[str]:
    units: list[str] = []
    for index, character in enumerate(segment):
        if character in _PLAIN and not (character == "." and index == 0):
            units.append(character)
        elif "A" <= character <= "Z":
            units.append("+" + character.lower())
        else:
            units.extend(f"%{byte:02x}" for byte in character.encode())
    return units


def _chunks(segment: str) -> list[str]:
    chunks = [""]
    for unit in _units(segment):
        if len(chunks[-1]) + len(unit) > _CHUNK:
            chunks.append("")
        chunks[-1] += unit
    return chunks


def directory_of(path: StreamPath) -> str:
    """The directory of a stream, relative to ``streams/``, with ``/`` between names."""
    if all(map(_AS_IT_IS.fullmatch, path)):
        return "/".join(path) + _STREAM
    names: list[str] = []
    for segment in path:
        chunks = _chunks(segment)
        names.extend(chunk + _CONTINUED for chunk in chunks[:-1])
        names.append(chunks[-1])
    return "/".join(names) + _STREAM


def path_of(directory: str) -> StreamPath | None:
    """The path of the stream in a directory below ``streams/``; None if it is no stream's."""
    if not directory.endswith(_STREAM):
        return None
    segments: list[str] = []
    pending = ""
    for name in directory[: -len(_STREAM)].split("/"):
        if name.endswith(_CONTINUED):
            pending += name[: -len(_CONTINUED)]
            continue
        decoded = _decode(pending + name)
        if not decoded or "\0" in decoded:
            return None
        segments.append(decoded)
        pending = ""
    path = tuple(segments)
    return path if not pending and directory_of(path) == directory else None


def _decode(name: str) -> str | None:
    data = bytearray()
    position = 0
    while position < len(name):
        unit = _UNIT.match(name, position)
        if unit is None:
            return None
        hexadecimal, upper, plain = unit.groups()
        if hexadecimal:
            data.append(int(hexadecimal, 16))
        else:
            data += (upper.upper() if upper else plain).encode()
        position = unit.end()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def is_as_it_is(name: str) -> bool:
    """Whether the name of a directory, without its suffix, is that of a segment as it is."""
    return _AS_IT_IS.fullmatch(name) is not None


def is_stream_directory(name: str) -> bool:
    """Whether a directory name is a stream's (and not a namespace's)."""
    return name.endswith(_STREAM)


def files_of(path: StreamPath, segment: int, stream_id: str) -> tuple[str, str]:
    """A segment file and its index file, relative to ``streams/``."""
    stem = f"{directory_of(path)}/{segment:016d}-{stream_id}"
    return stem + ".seg", stem + ".idx"


def segment_file(segment: int, stream_id: str) -> str:
    """Name of a segment file: the bytes."""
    return f"{segment:016d}-{stream_id}.seg"


def index_file(segment: int, stream_id: str) -> str:
    """Name of a segment's index file: one line per append."""
    return f"{segment:016d}-{stream_id}.idx"


def forks_of(stream_id: str) -> str:
    """Name of the directory of a stream's marks, one for each fork: see ``fork_marks``."""
    return f"{stream_id}.forks"


def is_id(name: str) -> bool:
    """Whether a name is the id of a stream."""
    return _ID.fullmatch(name) is not None


def parse_file(name: str) -> tuple[int, str, str] | None:
    """Segment number, stream id and kind (``seg`` or ``idx``) of a file name; None for others."""
    match = _FILE.fullmatch(name)
    return (int(match[1]), match[2], match[3]) if match else None

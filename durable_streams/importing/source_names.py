"""Which streams a source has: by its own list, or by the names of the reference server's files.

That server has no list.  Its data directory has ``streams/NAME~TIME~RANDOM.log`` for each stream:
``NAME`` is the path of the URL in base64url, without its padding; one of more than 200 characters
is cut to 180, with a part of its hash behind ``~``.  Only the names are looked at.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from typing import TYPE_CHECKING, Final

from durable_streams.client.address import split_url
from durable_streams.model.errors import InvalidRequest

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIX: Final = ".log"
_PARTS: Final = 3  # the name, the time and the random part; one more if the name was cut


def names_in(directory: Path, prefix: str) -> tuple[list[str], list[str]]:
    """The paths of the streams below a prefix (``/v1/stream``), and the files that do not tell one.

    Raises ``OSError`` if there is no such directory.
    """
    streams = directory / "streams"
    paths: set[str] = set()
    unknown: list[str] = []
    files = streams.iterdir() if streams.is_dir() else directory.iterdir()
    for file in sorted(files):
        if file.name.endswith(_SUFFIX):
            path = _path(file.name.removesuffix(_SUFFIX), prefix)
            if path is None:
                unknown.append(file.name)
            else:
                paths.add(path)
    return sorted(paths), unknown


def _path(name: str, prefix: str) -> str | None:
    parts = name.split("~")
    if len(parts) != _PARTS:
        return None
    encoded = parts[0]
    try:
        url = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        return split_url(url, prefix)[1]
    except (NotBase64, ValueError, InvalidRequest):
        return None

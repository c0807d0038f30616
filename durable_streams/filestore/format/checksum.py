"""Checksums: CRC-32 as zlib has it, by the fastest library installed, and the seal of JSON files.

A sealed JSON object has one more field, the last: ``checksum``, BLAKE2b (8 bytes, hex) over the
text of all the others in compact form.  It covers the text as it stands, names of fields included;
only white space between them carries nothing.
"""

from hashlib import blake2b
from typing import Final

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32", "is_sealed", "seal"]

_FIELD: Final = b',"checksum":"'
_ENDING: Final = len(_FIELD) + 16 + len(b'"}')


def seal(text: bytes) -> bytes:
    """Put the checksum into the compact JSON text of all other fields."""
    digest = blake2b(text, digest_size=8).hexdigest()
    return text[:-1] + _FIELD + digest.encode() + b'"}'


def is_sealed(compact: bytes) -> bool:
    """Whether compact JSON text ends in the checksum of what comes before."""
    return seal(compact[:-_ENDING] + b"}") == compact

"""CRC-32 as zlib has it, by the library that computes it fastest of those installed."""

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]

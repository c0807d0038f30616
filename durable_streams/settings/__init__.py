"""All settings, built once and passed down.

Each is stated here and nowhere else (``model/setting`` says what is made of that), in the module of
what it is for.  The library reads no environment: ``serve`` does, see ``process/options``.
"""

from durable_streams.settings.access import AccessSettings
from durable_streams.settings.engine import Durability, Settings, least_journal_file_bytes
from durable_streams.settings.http import HttpSettings
from durable_streams.settings.process import MAX_PORT, ProcessSettings, parse_address
from durable_streams.settings.sizes import KIB, MIB

__all__ = [
    "KIB",
    "MAX_PORT",
    "MIB",
    "AccessSettings",
    "Durability",
    "HttpSettings",
    "ProcessSettings",
    "Settings",
    "least_journal_file_bytes",
    "parse_address",
]

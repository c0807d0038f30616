"""Which version this is; ``pyproject.toml`` reads it here."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.2.0.dev0"

"""Where Patroni and etcd are, which ``scripts/setup cluster`` installs.

Debian's Patroni (3.0 in bookworm) does not know ``synchronous_mode: quorum``, which is there since
4.0: so it is PyPI's, in an environment of its own.  etcd is Debian's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tools.postgres_cluster import installed

_ROOT: Final = Path(__file__).resolve().parent.parent.parent
PATRONI: Final = _ROOT / ".venv-patroni" / "bin" / "patroni"
ETCD: Final = "etcd"
_AHEAD: Final = Path(__file__).resolve().parent / "patroni_ahead.py"


def patroni_command(ahead_s: int) -> list[str]:
    """What starts Patroni on a machine whose clock is so many seconds ahead of ours."""
    if not ahead_s:
        return [str(PATRONI)]
    return [str(PATRONI.with_name("python")), "-I", str(_AHEAD), str(ahead_s)]


def problem() -> str | None:
    """What is missing, in a line, and how to have it; None if nothing is."""
    missing = [name for name in (ETCD, installed.PROGRAM) if installed.find(name) is None]
    missing += [] if PATRONI.exists() else ["patroni"]
    if not missing:
        return None
    return f"{' and '.join(missing)} not found: run scripts/setup programs cluster"

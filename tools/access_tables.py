"""The tables of who may ask for what in docs/security.rst.

``python -m tools.access_tables`` renews them.  They are made from what decides it
(``access/needs``), so they cannot say anything else.
"""

from __future__ import annotations

import sys
from typing import Final

from durable_streams.access.needs import TABLE, Outcome
from tools.server_process import ROOT

DOCUMENT: Final = ROOT / "docs" / "security.rst"
BEGIN: Final = ".. Made from what decides it, by python -m tools.access_tables:\n"
END: Final = ".. That was made from what decides it.\n"


def tables() -> str:
    """The tables, as they stand in the document."""
    needs = [_row("Request", "Scopes")]
    for asked, all_needed in TABLE.items():
        scopes = [f"``{need.scope.value}`` on {need.on.value}" for need in all_needed]
        needs.append(_row(f"``{asked.value}``", "; ".join(scopes) or "none, and no credentials"))
    outcomes = [_row("Who asks has", "Answer")]
    for outcome in Outcome:
        status = "whatever it is" if outcome.status is None else str(outcome.status)
        outcomes.append(_row(outcome.text, status))
    return "\n".join(
        [
            _head("What each request takes", 35, 65) + "".join(needs),
            _head("What becomes of a request", 75, 25) + "".join(outcomes),
        ]
    )


def _head(title: str, *widths: int) -> str:
    told = " ".join(map(str, widths))
    return f".. list-table:: {title}\n   :header-rows: 1\n   :widths: {told}\n\n"


def _row(first: str, second: str) -> str:
    return f"   * - {first}\n     - {second}\n"


def in_document() -> str:
    """The tables that the document has."""
    return DOCUMENT.read_text().partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]


def main() -> None:
    """Put them into the document."""
    text = DOCUMENT.read_text()
    before, begin, rest = text.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"\n{END}")
    if not begin or not end:
        sys.exit(f"{DOCUMENT} does not say where the tables stand")
    DOCUMENT.write_text(before + begin + tables() + end + after)


if __name__ == "__main__":
    main()

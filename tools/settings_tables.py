"""The tables of settings in docs/configuration.rst, renewed by ``python -m tools.settings_tables``.

They are made from what the package knows of each setting, so they cannot say anything else.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from durable_streams.model.setting import settings_of
from durable_streams.settings import AccessSettings, HttpSettings, ProcessSettings, Settings
from tools.server_process import ROOT

if TYPE_CHECKING:
    from durable_streams.model.setting import Setting

DOCUMENT: Final = ROOT / "docs" / "configuration.rst"
BEGIN: Final = ".. Made from the settings themselves, by python -m tools.settings_tables:\n"
END: Final = ".. That was made from the settings themselves.\n"

_TITLES: Final = {
    ProcessSettings: "``[server]``: the server as a process (``serve`` alone)",
    HttpSettings: "``[http]``: HTTP (``HttpSettings``)",
    AccessSettings: "``[access]``: authentication (``AccessSettings``)",
    Settings: "``[storage]``: storage (``Settings``)",
}


def tables() -> str:
    """The tables, as they stand in the document."""
    return "\n".join(_table(kind, title) for kind, title in _TITLES.items())


def _table(
    kind: type[ProcessSettings | HttpSettings | AccessSettings | Settings], title: str
) -> str:
    rows = [_row("Setting, flag, name in the environment", "Default", "Allowed", "What it is")]
    rows += [_row_of(setting) for setting in settings_of(kind)]
    head = f".. list-table:: {title}\n   :header-rows: 1\n   :widths: 34 13 13 40\n\n"
    return head + "".join(rows)


def _row_of(setting: Setting) -> str:
    names = [setting.name]
    if setting.has_flag:
        names.append(setting.flag)
        if setting.default is True:
            names[-1] = setting.flag.replace("--", "--no-", 1)
    names.append(setting.variable)
    what = f"{setting.help}.  {setting.more}" if setting.more else setting.help
    if setting.reloadable:
        what = f"{what.removesuffix('.')}.  Read again on ``SIGHUP``."
    return _row(
        " ".join(f"``{name}``" for name in names), setting.default_text, setting.bounds, what
    )


def _row(*cells: str) -> str:
    lines = "".join(f"     -{' ' if cell else ''}{cell}\n" for cell in cells)
    return f"   *{lines[4:]}"


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

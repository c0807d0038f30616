"""The configuration file of ``serve``: TOML, with a table for each group of settings.

A key is the name of a setting, and its value has TOML's type for it: numbers, ``true`` and
``false``, texts, and arrays of texts.  Paths that are relative begin at the directory of the file,
so that a file means the same wherever the server is started.

Nothing is passed over: what is no setting, stands in another table, or cannot be is a problem, of
which all are found at once.  A problem says where it is, and no text that a value has unless the
setting has a few to choose from: somebody may have put a secret in the wrong place.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from durable_streams.access.small_files import FileProblem, read_small
from durable_streams.access.tables_in_toml import NotToml, quoted, read_toml
from durable_streams.wire.url_prefix import checked_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from durable_streams.model.setting import Setting

    Tables = Mapping[str, Mapping[str, Setting]]

MAX_FILE_BYTES: Final = 64 * 1024
"""Many times what all settings take, and read at once."""

MAX_NUMBER: Final = 10**18
"""Beyond every size there is, and more than a float can be made of without a loss."""

MAX_PROBLEMS: Final = 20
"""Told of one file; whoever has more has taken another file for it."""

_MAX_SHOWN: Final = 64
_FIRST_PRINTABLE: Final = " "
_DELETE: Final = "\x7f"


class Found(NamedTuple):
    """The values that a file has, by the settings' names, and what is wrong with it."""

    values: dict[str, Any]
    problems: list[str]


def read_config(path: Path, tables: Tables) -> Found:
    """Read a file; ``tables`` are the settings of each table by name.  Blocking code."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    try:
        content = read_toml(read_small(path, MAX_FILE_BYTES))
    except FileProblem as error:
        return Found({}, [f"{error}"])
    except NotToml as error:
        return Found({}, [f"{path}: {error}"])
    for title, name, value in _entries(content, tables, problems):
        setting = tables[title].get(name)
        if setting is None:
            problems.append(f"[{_name(title)}] {_unknown(title, name, tables)}")
            continue
        try:
            values[name] = _value(setting, value, path)
        except ValueError as error:
            problems.append(f"[{title}] {name} {error}")
    more = len(problems) - MAX_PROBLEMS
    told = [f"{path}: {problem}" for problem in problems[:MAX_PROBLEMS]]
    return Found(values, [*told, f"{path}: and {more} more"] if more > 0 else told)


def _entries(
    content: Mapping[str, Any], tables: Tables, problems: list[str]
) -> Iterator[tuple[str, str, Any]]:
    """Table, key and value of all that is in tables that there are."""
    for title, table in content.items():
        if title in tables:
            if isinstance(table, dict):
                for name, value in table.items():
                    yield title, name, value
            else:
                problems.append(f"[{title}] has to be a table, not {_shown(table)}")
        elif isinstance(table, dict | list):
            near = difflib.get_close_matches(title, tables, n=1)
            known = ", ".join(f"[{one}]" for one in tables)
            meant = f"is it [{near[0]}] that was meant?" if near else f"there are {known}"
            problems.append(f"[{_name(title)}] is no table of settings: {meant}")
        else:
            problems.append(f"{_unknown('', title, tables)}")


def _unknown(title: str, name: str, tables: Tables) -> str:
    """What is wrong with a key that its table has not."""
    for other, settings in tables.items():
        if name in settings:
            here = "stands in no table" if not title else "is no setting of this table"
            return f"{name} {here}: it belongs into [{other}]"
    every = {one: other for other, settings in tables.items() for one in settings}
    near = difflib.get_close_matches(name, every, n=1)
    if not near:
        return f"{_name(name)} is no setting"
    where = "" if every[near[0]] == title else f" of [{every[near[0]]}]"
    return f"{_name(name)} is no setting: is it {near[0]}{where} that was meant?"


def _value(setting: Setting, value: object, path: Path) -> Any:  # noqa: ANN401 - as the setting has it
    """A value as the setting has it; ``ValueError`` if it cannot be."""
    refusal = ValueError(f"has to be {_wanted(setting)}, not {_shown(value, setting)}")
    if isinstance(value, int) and abs(value) > MAX_NUMBER:
        raise refusal
    try:
        checked = setting.checked(value)
    except (TypeError, ValueError):
        raise refusal from None
    if isinstance(checked, tuple):
        texts = tuple(one.strip() for one in checked)
        if not all(one and _is_plain(one) for one in texts):
            raise refusal
        return texts
    if not isinstance(checked, str):
        return float(checked) if setting.kind is float else checked
    if not _is_plain(checked) or (setting.default and not checked):
        raise refusal
    if setting.name == "prefix":
        return checked_prefix(checked)
    if setting.is_path and checked:
        return str(path.parent / checked)
    return checked


def _is_plain(text: str) -> bool:
    """Whether a text has no control characters, which no setting has and no path should have."""
    return all(one >= _FIRST_PRINTABLE and one != _DELETE for one in text)


def _wanted(setting: Setting) -> str:
    if setting.kind is bool:
        return "true or false"
    if setting.texts:
        return f"one of {', '.join(map(quoted, setting.texts))}"
    if setting.kind is int:
        return f"a whole number {setting.bounds}"
    if setting.kind is float:
        return f"a number {'' if setting.is_rate else 'of seconds '}{setting.bounds}"
    if setting.kind is tuple:
        return "an array of texts, none of them empty or with control characters"
    may_be = "without control characters" if not setting.default else "that is not empty"
    return f"a text {may_be}"


def _shown(value: object, setting: Setting | None = None) -> str:
    """A value for a message, as TOML has it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return _short(str(value))
        case str():
            is_a_word = setting is not None and setting.texts and setting.kind is not bool
            return _short(quoted(value)) if is_a_word else "this text"
        case list():
            return "this array"
        case dict():
            return "a table"
    return "a date or time"


def _name(name: str) -> str:
    """A key that somebody wrote, for a message."""
    return _short(name if name.isprintable() else ascii(name))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."

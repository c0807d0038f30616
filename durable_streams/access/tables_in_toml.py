"""Arrays of tables in TOML text, changed where people have written them.

A table begins at its header, such as ``[[token]]``, and ends at the next one.  What is added or
taken away is whole tables; all other bytes stay as they are, comments too.  The lines are looked at
and not the grammar, so whoever changes a text has to parse it afterwards and compare: it is not
what was meant if the tables are written as inline ones, or a header stands in a text of many lines.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_HEADER: Final = re.compile(
    r"""\[\[[ \t]*(?:"([a-z]+)"|'([a-z]+)'|([a-z]+))[ \t]*\]\][ \t]*(?:#.*)?"""
)
_IS_NOTHING: Final = re.compile(r"(?:#.*)?")


class NotToml(ValueError):
    """A text is no TOML; it says where, and nothing of what is there."""


def read_toml(content: bytes) -> dict[str, Any]:
    """What TOML says; :class:`NotToml` if it is none."""
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise NotToml("it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise NotToml(f"it is not TOML: {error}") from None
    except (ValueError, RecursionError):  # numbers of thousands of digits, brackets in brackets
        raise NotToml("it is not TOML that anybody could have meant") from None


def quoted(text: str) -> str:
    """A text as TOML has it."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def quoted_list(texts: Iterable[str]) -> str:
    """Several of them."""
    return f"[{', '.join(map(quoted, texts))}]"


def table(header: str, values: Mapping[str, str]) -> list[str]:
    """The lines of a table, of which the values are written as TOML has them."""
    return [f"[[{header}]]", *(f"{name} = {value}" for name, value in values.items())]


def with_last(text: str, lines: Iterable[str]) -> str:
    """A text with a table behind all others."""
    end = _line_end(text)
    if text and not text.endswith("\n"):
        text += end
    return text + (end if text else "") + "".join(f"{line}{end}" for line in lines)


def with_first(text: str, name: str, lines: Iterable[str]) -> str:
    """A text with a table before all others of its name; comments above those stay above."""
    kept = _lines(text)
    found = _headers(kept, name)
    if not found:
        return with_last(text, lines)
    end = _line_end(text)
    kept[found[0] : found[0]] = [*(f"{line}{end}" for line in lines), end]
    return "".join(kept)


def without(text: str, name: str, index: int) -> str:
    """A text without one of the tables of a name; comments above and behind it stay."""
    lines = _lines(text)
    found = [*_headers(lines, name), len(lines)]
    if index + 1 >= len(found):
        return text
    first, end = found[index], found[index + 1]
    while _IS_NOTHING.fullmatch(lines[end - 1].strip()):
        end -= 1
    if not "".join(lines[end : end + 1]).strip():  # of the empty lines around it one is enough
        if first == 0:
            end += 1
        elif not lines[first - 1].strip():
            first -= 1
    return "".join(lines[:first] + lines[end:])


def _headers(lines: Iterable[str], name: str) -> list[int]:
    found = ((at, _HEADER.fullmatch(line.strip())) for at, line in enumerate(lines))
    return [at for at, match in found if match is not None and name in match.groups()]


def _lines(text: str) -> list[str]:
    """With their ends; only those that TOML knows end one."""
    *lines, rest = text.split("\n")
    return [*(f"{line}\n" for line in lines), *([rest] if rest else [])]


def _line_end(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"

"""JSON that others may have written to confuse: read so that it can mean one thing only.

A name that comes twice in an object, ``NaN``, what is no UTF-8 and what nests deep are errors: two
readers of them may see different things, and a parser may run out of stack.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from durable_streams.rules.json_depth import depth

MAX_DEPTH: Final = 32
"""Objects and arrays within one another: the claims and key sets of issuers have four or five."""


def load_object(text: bytes) -> dict[str, Any]:
    """Read a JSON object; ``ValueError``, without any of the text, if it is none or not strict."""
    if depth(text, least=MAX_DEPTH) > MAX_DEPTH:
        raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")
    try:
        found = json.loads(
            text.decode(), object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_int
        )
    except _Refused as error:
        raise ValueError(str(error)) from None
    except ValueError:  # its text may have some of what was read
        raise ValueError("it is no JSON in UTF-8") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - of a value, not of an argument
    return found


class _Refused(ValueError):
    """JSON that is not strict."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("it has a name twice in one object")
    return found


def _no_constant(_: str) -> NoReturn:
    raise _Refused("it has a number that JSON has not")


def _int(digits: str) -> int | float:
    """A whole number; one of very many digits is not worth their conversion."""
    return int(digits) if len(digits) <= 32 else float(digits)

"""One of each error, by the types of its constructor's arguments: none can be forgotten."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar, get_type_hints

import durable_streams
from durable_streams import Offset
from durable_streams.model import errors

VALUES: dict[object, Any] = {str: "text", int: 7, int | None: 7, Offset: Offset(0, 5)}

_Error = TypeVar("_Error", bound=Exception)


def every_error() -> list[type[Exception]]:
    """All classes that ``durable_streams.model.errors`` has for others."""
    return [
        kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, Exception) and not name.startswith("_")
    ]


def fields_of(kind: type[Exception]) -> dict[str, object]:
    """The arguments of an error's constructor, with their types, as those outside can name them."""
    if not inspect.isfunction(kind.__init__):
        return {"message": str}
    hints = get_type_hints(kind.__init__, vars(errors), vars(durable_streams))
    hints.pop("return")
    return hints


def sample(kind: type[_Error]) -> _Error:
    """An error of one class, with a value for each of its fields."""
    return kind(*(VALUES[hint] for hint in fields_of(kind).values()))

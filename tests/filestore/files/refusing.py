"""Hosts that refuse system calls: what stands in the place of the functions of ``os``."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LOST: Final = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of a sync that mean that bytes may be lost."""


def fails(number: int) -> Callable[..., None]:
    """What a refusing host has in the place of a call."""

    def call(*_args: object, **_kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


class Calls:
    """Stands for a call: notes that it was made, and does nothing or what it is given."""

    def __init__(self, action: Callable[..., Any] = lambda *_: None) -> None:
        self.arguments: list[tuple[Any, ...]] = []
        self._action = action

    def __call__(self, *arguments: Any) -> Any:
        self.arguments.append(arguments)
        return self._action(*arguments)

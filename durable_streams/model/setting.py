"""What is known of a setting, stated once: in the field of the dataclass that has it.

From what :func:`setting` keeps beside a field's default are made the check of values
(:func:`check`), the flags, the names in the environment and the keys of a file that ``serve`` knows
(``process/options``, ``process/config_file``), the tables in docs/configuration.rst and the
reference in docs/library.rst.

A name ends in the unit, ``_bytes``, or ``_s`` for seconds; a ``float`` is seconds, or a rate,
``_per_s``, or a share of something, which has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_MIB: Final = 1 << 20

ENVIRONMENT: Final = "DURABLE_STREAMS_"
"""What the names of all settings begin with in the environment."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting.

    ``help``: what it is, in half a sentence without a full stop; ``more``: sentences for those who
    read on.  Numbers are at least ``least``, or greater than ``above`` if that is given, and at
    most ``most``; ``infinite``: ``math.inf`` will do.  ``choices``: the texts that will do.
    ``has_flag``: whether ``serve`` has a flag for it; in the environment and in its file it has
    every setting.  ``is_path``: a text that names a file or directory.  ``reloadable``: a ``serve``
    that runs takes a new value.
    """

    name: str
    default: Any
    help: str
    more: str = ""
    least: int = 0
    above: int | None = None
    most: int | None = None
    infinite: bool = False
    choices: tuple[str, ...] = ()
    has_flag: bool = False
    is_path: bool = False
    reloadable: bool = False

    @property
    def kind(self) -> type:
        """The type of its values, which is that of the default."""
        return type(self.default)

    @property
    def flag(self) -> str:
        """What the command line calls it: times have no unit there."""
        name = self.name if self.is_rate else self.name.removesuffix("_s")
        return "--" + name.replace("_", "-")

    @property
    def is_rate(self) -> bool:
        """Whether its values are so many in a second."""
        return self.name.endswith("_per_s")

    @property
    def is_time(self) -> bool:
        """Whether its values are seconds."""
        return self.name.endswith("_s") and not self.is_rate

    @property
    def variable(self) -> str:
        """What it is called in the environment."""
        return ENVIRONMENT + self.name.upper()

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts that a value can have; none if they are not to be counted."""
        if issubclass(self.kind, Enum):
            return tuple(member.value for member in self.kind)
        return ("true", "false") if self.kind is bool else self.choices

    @property
    def bounds(self) -> str:
        """Which values will do; nothing for a text that may be any."""
        if self.texts:
            return f"{', '.join(self.texts[:-1])} or {self.texts[-1]}"
        if self.kind not in (int, float):
            return ""
        text = f"from {self.least}" if self.above is None else f"greater than {self.above}"
        if self.most is not None:
            return f"{text} to {self.most}"
        if self.above is None:
            text += " on"
        return f"{text}, or inf" if self.infinite else text

    @property
    def default_text(self) -> str:
        """The default as it is given in text, and large sizes also as they are read."""
        if isinstance(self.default, Enum):
            return str(self.default.value)
        match self.default:
            case () | "":
                return ""
            case bool():
                return "true" if self.default else "false"
            case float():
                return f"{self.default:g}"
            case int() if self.name.endswith("_bytes") and self.default % _MIB == 0:
                return f"{self.default}, {self.default // _MIB} MiB"
        return str(self.default)

    @property
    def described(self) -> str:
        """All that is known of it, for those who read the documentation."""
        parts = [f"{self.help[0].upper()}{self.help[1:]}."]
        if self.more:
            parts.append(self.more)
        if self.bounds:
            parts.append(f"Allowed: {self.bounds}.")
        return "  ".join(parts)

    def is_within(self, number: Any) -> bool:  # noqa: ANN401 - an int or a float
        """Whether a number is within the bounds."""
        if number == math.inf:
            return self.infinite
        is_enough = number >= self.least if self.above is None else number > self.above
        return is_enough and (self.most is None or number <= self.most)  # NaN is neither

    def checked(self, value: Any) -> Any:  # noqa: ANN401 - that is what it is to find out
        """The value; ``TypeError`` if it is of another type, ``ValueError`` if it cannot be.

        An ``int`` does for seconds, its text for a member of an enum, and a list for a tuple.
        """
        if self.kind is tuple:
            return self._texts_of(value)
        if isinstance(value, str) and self.texts and self.kind is not bool:
            if value not in self.texts:
                names = ", ".join(map(repr, self.texts))
                raise ValueError(f"{self.name} must be one of {names}, not {value!r}")
            return self.kind(value)
        if type(value) is not self.kind and not (self.kind is float and type(value) is int):
            wanted, given = self.kind.__name__, type(value).__name__
            raise TypeError(f"{self.name} must be {wanted}, not {given} ({value!r})")
        if self.kind in (int, float) and not self.is_within(value):
            what = "a whole number"
            if self.kind is float:
                what = "a number of seconds" if self.is_time else "a number"
            raise ValueError(f"{self.name} must be {what} {self.bounds}, not {value}")
        return value

    def _texts_of(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, tuple | list) or not all(isinstance(one, str) for one in value):
            raise TypeError(f"{self.name} must be a tuple of str, not {value!r}")
        if not all(value):
            raise ValueError(f"{self.name}: an empty text stands for nothing: {value!r}")
        return tuple(value)


def setting(
    default: _T,
    *,
    help: str,  # noqa: A002 - what argparse calls it, and everybody
    more: str = "",
    least: int = 0,
    above: int | None = None,
    most: int | None = None,
    infinite: bool = False,
    choices: tuple[str, ...] = (),
    flag: bool = False,
    path: bool = False,
    reloadable: bool = False,
) -> _T:
    """A field that is a :class:`Setting`, which says what the arguments are."""
    known = {
        "help": help,
        "more": more,
        "least": least,
        "above": above,
        "most": most,
        "infinite": infinite,
        "choices": choices,
        "has_flag": flag,
        "is_path": path,
        "reloadable": reloadable,
    }
    return field(default=default, metadata=known)


def settings_of(kind: type[DataclassInstance]) -> tuple[Setting, ...]:
    """The settings that a class has, in order."""
    return tuple(
        Setting(name=entry.name, default=entry.default, **entry.metadata) for entry in fields(kind)
    )


def check(settings: DataclassInstance) -> None:
    """Refuse values that cannot be, by the setting's name; make members of enums of their texts."""
    for known in settings_of(type(settings)):
        value = getattr(settings, known.name)
        checked = known.checked(value)
        if checked is not value:
            object.__setattr__(settings, known.name, checked)

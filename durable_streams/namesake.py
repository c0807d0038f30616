"""The other distribution whose package has our name, in one environment with ours: it is told.

``durable-streams`` is a client, by other authors, that installs a package ``durable_streams`` too.
Of two files with one name the one that came last is there, and uninstalling one distribution takes
such files of the other along.  So either may be broken, and which it is nobody sees.
"""

from __future__ import annotations

import os
import warnings
from typing import Final

_NAMESAKE: Final = "durable_streams-"
"""What the directory of its metadata begins with, beside the package; ours has a longer name."""

_MEND: Final = (
    "use an environment for each: pip uninstall durable-streams, and then "
    "pip install --force-reinstall --no-deps durable-streams-server"
)


def namesake_problem() -> str | None:
    """What is wrong and what to do; None if nothing is.  It reads two directories."""
    package = os.path.dirname(__file__)  # noqa: PTH120 - at each import, and pathlib takes longer
    try:
        here = os.listdir(package)  # noqa: PTH208
        beside = os.listdir(os.path.dirname(package))  # noqa: PTH120, PTH208
    except OSError:  # in an archive, say
        return None
    if any(name.startswith(_NAMESAKE) and name.endswith("-info") for name in beside):
        return (
            "the distribution durable-streams, a client by other authors, is installed here as "
            f"well, and its package has the same name, durable_streams: {_MEND}"
        )
    if "__init__.py" not in here:
        return (
            f"{package} has lost its __init__.py, as it does when the distribution "
            f"durable-streams is uninstalled beside it: {_MEND}"
        )
    return None


def warn_of_namesake() -> None:
    """Tell the program that imports the package."""
    found = namesake_problem()
    if found is not None:
        warnings.warn(found, stacklevel=3)

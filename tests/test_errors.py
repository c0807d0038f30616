"""Errors: for programs (types, fields) and people (text), the same wherever they get to."""

from __future__ import annotations

import copy
import importlib
import inspect
import multiprocessing
import pickle
import pkgutil
import re
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest

import durable_streams
from durable_streams import DataDirectoryError, StreamError
from durable_streams import errors as errors_of_old
from durable_streams.model import errors
from durable_streams.wire import replies
from tests.error_samples import every_error, fields_of, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALL: Final = every_error()
COMPOSING: Final = [kind for kind in ALL if "message" not in fields_of(kind)]
"""Those whose text is their own, not that of whoever raises them."""
PROTOCOLS: Final = range(pickle.HIGHEST_PROTOCOL + 1)


def pickled(protocol: int, error: Exception) -> Any:
    return pickle.loads(pickle.dumps(error, protocol))


WAYS: Final[dict[str, Callable[[Exception], Any]]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {number}": partial(pickled, number) for number in PROTOCOLS},
}
TO_DO: Final = re.compile(
    r"\b(use|send|create|open|stop|try|see|run|is restarted)\b",
    re.IGNORECASE,
)


INTERNAL: Final = {
    *("BadLine", "BadRemoved", "BadSidecar", "DamagedFiles", "DamagedSidecar"),
    *("FailedRead", "FailedSync", "FilesLost", "NewerFiles", "NewerIndex", "NewerSidecar"),
    *("NotKept", "SyncFailed", "Unpackable"),  # all of the storage
    *("FileProblem", "SigningKeysError", "TokenFileError"),  # of the files of access
    *("NotToml", "NoSuchToken", "TokenExists", "_NoGrant", "_NoSet", "_Problem"),  # inside of it
    *("_Refused", "_Wrong"),
    *("BodyCutOff", "HeadTooLong"),  # for aiohttp
    *("Disconnected", "OutOfTime"),  # inside the client
    *("CannotListen", "NotDumpable", "OutputFailed", "StartError", "_Stop"),  # of the command line
    *("ContextProblem", "Differs", "NoSpool", "Unusable"),  # of its verbs on streams
    *("Damaged", "Done", "InUse", "NotHeld", "NotReached", "NotUsable", "Occupied"),  # of copies
    "TransferError",  # which all of these are
    "Broken",  # of runs, inside the store on PostgreSQL
    "DatabaseProblem",  # as those are
    "_EncryptedError",  # of a private key, for the module ssl
    "RunFailed",  # which sources of runs raise, and nobody meets
    "CannotRunHere",  # an ImportError, and met as one
    *("NoDatabase", "NoDatabaseUrl", "Refused", "Unknown", "_Committing"),  # of the database
}
"""Errors that are caught inside, or known by what they derive from: nobody imports them."""


def below(kind: type[Exception]) -> Iterator[type[Exception]]:
    """All classes that derive from one, however far away."""
    for derived in type.__subclasses__(kind):
        yield derived
        yield from below(derived)


class HasFields(StreamError):
    """One with fields that its constructor does not take as they are."""

    def __init__(self, first: int, *, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.both = [first, second]


def is_same(one: Exception, other: Exception) -> bool:
    return (type(one), one.args, str(one), repr(one), vars(one)) == (
        type(other),
        other.args,
        str(other),
        repr(other),
        vars(other),
    )


def fail(kind: type[Exception]) -> None:
    raise sample(kind)


def test_an_error_is_an_error_of_requests_or_of_the_directory() -> None:
    assert {kind for kind in ALL if not issubclass(kind, StreamError)} == {
        kind for kind in ALL if issubclass(kind, DataDirectoryError)
    }


def test_an_error_that_is_made_anywhere_is_public_or_never_leaves_the_package() -> None:
    """A new one is public, with all that is asked of it here, or is listed as one that is not."""
    for module in pkgutil.walk_packages(durable_streams.__path__, "durable_streams."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    made = {kind for kind in below(Exception) if kind.__module__.startswith("durable_streams.")}
    assert {kind.__name__ for kind in made - set(ALL)} == INTERNAL | {"_Portable"}
    public = set(below(StreamError)) | set(below(DataDirectoryError))
    assert {kind for kind in public & made if kind.__name__ in INTERNAL} == set()


@pytest.mark.parametrize("kind", ALL)
def test_an_error_and_the_types_of_its_fields_are_exported(kind: type[Exception]) -> None:
    assert getattr(durable_streams, kind.__name__) is kind
    assert kind.__name__ in durable_streams.__all__
    fields_of(kind)  # raises NameError if the package has no such type


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_an_error_is_the_same_after_a_round_trip(way: Callable[[Exception], Any]) -> None:
    for error in [*map(sample, ALL), HasFields(1, second="2"), errors.Overloaded("busy", 9)]:
        error.add_note("and more")
        assert is_same(error, way(error)), error


def test_a_deep_copy_has_fields_of_its_own() -> None:
    error = HasFields(1, second="2")
    assert copy.deepcopy(error).both is not error.both


def test_every_error_comes_out_of_a_pool_of_processes() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for kind in ALL:
            error = pool.submit(fail, kind).exception()
            assert isinstance(error, Exception)
            error.__dict__.pop("__notes__", None)
            assert is_same(error, sample(kind))


@pytest.mark.parametrize("kind", COMPOSING)
def test_an_error_says_what_to_do(kind: type[Exception]) -> None:
    assert TO_DO.search(str(sample(kind))), str(sample(kind))


@pytest.mark.parametrize("kind", ALL)
def test_the_reference_tells_the_fields_and_the_status_of_an_error(kind: type[Exception]) -> None:
    told = inspect.getdoc(kind)
    assert told is not None
    status = re.search(r"\((\d{3})\)\.?$", told.split("\n\n")[0])
    if issubclass(kind, StreamError):
        assert status is not None, told
        assert int(status[1]) == replies.STATUS[kind]
    else:
        assert status is None
    own = vars(kind).get("__init__")
    names = set() if own is None else set(vars(sample(kind))) - {"retry_after_s"}
    assert {name for name in names if f"``{name}``" not in told} == set()


def test_the_tree_of_errors_has_each_in_its_place() -> None:
    assert errors.__doc__ is not None
    above: list[str] = []
    told = set()
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)\b", line)
        if found is None:
            continue
        depth = len(found[1]) // 4
        above[depth:] = [found[2]]
        told.add((found[2], above[depth - 1] if depth else None))
    bases = {kind.__name__: kind.__bases__[0].__name__ for kind in ALL}
    roots = {"StreamError", "DataDirectoryError"}
    assert told == {(name, None if name in roots else base) for name, base in bases.items()}


@pytest.mark.parametrize("kind", ALL)
def test_an_error_is_where_programs_of_version_0_1_import_it_from(kind: type[Exception]) -> None:
    assert getattr(errors_of_old, kind.__name__) is kind

"""House rules a machine can check; the others are for whoever reads the change."""

from __future__ import annotations

import ast
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.long import FIRST, LONG, LONGEST
from tools.server_process import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_MODULE_LINES: Final = 450
MAX_FUNCTION_LINES: Final = 60
REASON: Final = re.compile(r"\b(?:long|one module|one function) because\b", re.IGNORECASE)
"""In tools and tests, a docstring that gives this reason may stand over more lines than that."""

UNFINISHED: Final = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K]|not implemente[d])\b")
TIME: Final = re.compile(
    r"\b(?:time\.sleep|asyncio\.sleep\((?!0\))|perf_counter|monotonic)\b"
    r"|\.time(?:_ns)?\(|\bprocess_time\b"
)

INSIDE: Final = re.compile(r"\._cor[e]\b")

PATCHED: Final = re.compile(r"setattr\(\s*(?!ctypes)[^)]*?[.\"]_?[A-Z][A-Z0-9_]+\"")
"""A constant of a module, in a test that replaces it."""

BEGINS: Final = frozenset(
    {"create_task", "ensure_future", "to_thread", "Thread", "Timer", "ThreadPoolExecutor"}
)
MAY_BEGIN: Final = {
    ("supervisor.py", "watch"): "tasks that last as long as the engine, all watched",
    ("machine.py", "__init__"): "a worker's thread, whose end the supervisor is told of",
    ("errands.py", "begin"): "one request, which awaits it or has left",
    ("closing.py", "finish"): "the end, which is awaited, and begun again if need be",
    ("forgotten.py", "_dropped"): "the end of what nobody uses, which may block",
    ("catalog.py", "_open"): "one look at the disk, awaited by whoever asked",
    ("output_queue.py", "__init__"): "the command line's own output, whatever is open",
    ("fast_lane.py", "_wait_for"): "one request, whose outcome is asked for",
    ("followed_file.py", "in_thread"): "one look at a file, or one edit, which is awaited",
    ("stored.py", "running"): "looks at a table, whose faults are logged and tried again",
    ("followed_file.py", "running"): "looks at a file, whose faults are logged and tried again",
    ("tls.py", "_accept"): "one handshake, which has an end, and is cut off before the server's",
    (
        "logs.py",
        "with_rest_told",
    ): "a line now and then, about lines; it does nothing that can fail",
    ("certificates.py", "watched"): "a line a day, about a date; it does nothing that can fail",
    ("reloading.py", "watched"): "reading settings again, whose faults are logged",
    ("reloading.py", "_once"): "one look at a file, which is awaited",
    ("tasks.py", "_begin"): "all of a node on PostgreSQL, watched",
    ("store.py", "append"): "one large body, looked through for whoever sent it",
    ("reading.py", "in_thread"): "a copy's look at files, or what it writes, awaited by it",
    ("records.py", "_fed"): "one look at JSON, awaited by whoever asked",
    ("aio_http.py", "_credentials"): "one question for a token, which whoever needs it awaits",
    ("aio_producer.py", "__aenter__"): "a producer's sending, which its end ends",
    (
        "aio_producer.py",
        "_send_what_is_due",
    ): "one batch, awaited, or ended with the producer",
    ("aio_tail.py", "ask"): "one request, which its tail awaits, or cancels when it is dropped",
    ("runs.py", "__aenter__"): "looks for abandoned runs, whose faults are logged and tried again",
    ("runs.py", "_spawn"): "a start, which is awaited, or a run, whose end is logged",
    ("mcp.py", "_whole"): "what one request stores, which is awaited",
    ("mcp_resuming.py", "in_one_piece"): "one step of a replay, awaited, or ended with it",
    ("carrying.py", "carry"): "a run's source and its writing, which it awaits, or cancels",
    ("sources.py", "_in_threads"): "one step of an iterator, which is awaited",
    ("wire.py", "_beating"): "one step of an answer, awaited, or ended with it",
    ("workers.py", "begin"): "signs of life, and stops, whose faults are logged and tried again",
    ("commands.py", "all"): "copies of streams, which the command awaits",
    ("requests.py", "live_read"): "looking whether one client leaves, as long as it waits",
    ("answers.py", "_put"): "sending what waits for one reader, who is ended if that fails",
    ("lifespans.py", "tell"): "the lifespan of an application inside, which is waited for",
    ("loop_thread.py", "__init__"): "a loop's thread, of whose end everybody is told who waits",
    ("benching.py", "_measured"): "appends and reads, which are awaited",
    ("pump.py", "run"): "reading and sending, which are awaited",
    ("reading.py", "_unless_nobody_reads"): "printing, and a look at stdout, both awaited",
    ("serving.py", "_opened_unless"): "the opening and a stop, whichever comes first",
    ("sync_producer.py", "__enter__"): "threads that send, which the producer's end awaits",
    ("jwks.py", "running"): "following the keys of JWTs, whose faults are logged and tried again",
}
"""Who begins what runs beside, and who hears of its end; see ``supervisor.py``."""


def modules_of(directory: str) -> list[Path]:
    found: list[Path] = []
    for place, folders, files in os.walk(ROOT / directory):
        folders[:] = [folder for folder in folders if folder != "node_modules"]  # many, of others
        found += [Path(place, file) for file in files if file.endswith(".py")]
    return sorted(found)


PACKAGE: Final = modules_of("durable_streams")
TOOLS: Final = modules_of("tools")
TESTS: Final = modules_of("tests")
TEST_FILES: Final = [path for path in TESTS if path.name.startswith("test_")]
DIRECTORIES: Final = {"durable_streams": PACKAGE, "tools": TOOLS, "tests": TESTS}
SCRIPTS: Final = sorted(path for path in (ROOT / "scripts").iterdir() if path.is_file())


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def has_reason(path: Path, node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return path not in PACKAGE and REASON.search(ast.get_docstring(node) or "") is not None


def functions_of(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def too_long_in(path: Path) -> Iterator[str]:
    """What of a module takes more lines than it may, and gives no reason, or may have none."""
    text = path.read_text()
    module = ast.parse(text)
    lines = text.count("\n")
    if lines > MAX_MODULE_LINES and not has_reason(path, module):
        yield f"{name(path)}: {lines} lines"
    for function in functions_of(module):
        assert function.end_lineno is not None
        lines = function.end_lineno - function.lineno + 1
        if lines > MAX_FUNCTION_LINES and not has_reason(path, function):
            yield f"{name(path)}: {function.name}: {lines} lines"


def found_in(paths: Iterable[Path], searched: re.Pattern[str]) -> list[str]:
    """Where something stands that should not."""
    found = ((path, searched.search(path.read_text())) for path in paths)
    return [f"{name(path)}: {match[0]}" for path, match in found if match is not None]


@pytest.mark.parametrize("directory", DIRECTORIES)
def test_modules_and_functions_are_small_or_tools_say_why_not(directory: str) -> None:
    assert [told for path in DIRECTORIES[directory] for told in too_long_in(path)] == []


@pytest.mark.parametrize("directory", ["durable_streams", "tools"])
def test_every_module_of_the_package_and_the_tools_says_what_it_is_for(directory: str) -> None:
    for path in DIRECTORIES[directory]:
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_no_module_imports_the_root_of_the_package() -> None:
    """Which knows the others, so that would be a circle: a module is imported from its own home."""
    for path in PACKAGE:
        for node in ast.walk(ast.parse(path.read_text())):
            is_root = isinstance(node, ast.ImportFrom) and node.module == "durable_streams"
            assert not is_root, path


def test_the_supervisor_begins_all_that_lasts() -> None:
    found = {
        (path.name, function.name)
        for path in PACKAGE
        for function in functions_of(ast.parse(path.read_text()))
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and ast.unparse(call.func).split(".")[-1] in BEGINS
    }
    assert found == set(MAY_BEGIN)


def test_nothing_is_marked_as_unfinished() -> None:
    everything = PACKAGE + TOOLS + TESTS + SCRIPTS + [ROOT / "README.rst"]
    assert found_in(everything, UNFINISHED) == []


def test_tests_look_into_an_engine_in_one_place() -> None:
    """``tools/inside``: what is inside changes, and they should not."""
    assert found_in(TESTS, INSIDE) == []


def test_no_test_replaces_a_constant() -> None:
    """What a test needs otherwise is a setting, or an argument."""
    assert found_in(TOOLS + TESTS, PATCHED) == []


def test_what_takes_long_is_listed_by_its_name() -> None:
    for listed in (*LONG, *FIRST, *LONGEST):
        file, _, test = listed.partition("::")
        text = (Path(__file__).parent / file).read_text()
        assert not test or f"def {test}(" in text, listed


def test_no_two_test_files_have_the_same_name() -> None:
    counted = Counter(path.name for path in TEST_FILES)
    assert not [file for file, times in counted.items() if times > 1]


def test_no_test_sleeps_or_judges_by_the_clock() -> None:
    files = [path for path in TEST_FILES if path != Path(__file__).resolve()]
    # There, time passes at once.
    judged = [path for path in files if "SimulatedLoop" not in path.read_text()]
    assert found_in(judged, TIME) == []

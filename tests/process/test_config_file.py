"""The file of settings: each setting by its key, and what is refused of whatever else it says."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from durable_streams.process import options
from durable_streams.process.config_file import (
    MAX_FILE_BYTES,
    MAX_NUMBER,
    MAX_PROBLEMS,
    read_config,
)
from durable_streams.process.options import Origin, Source, StartError
from tests.process.test_options import ALL, BESIDE, other_than_default, parsed, value_of

if TYPE_CHECKING:
    from durable_streams.model.setting import Setting

TABLE_OF = {name: title for title, table in options.tables().items() for name in table}


def in_toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(in_toml, value))}]"
    if isinstance(value, int | float):
        return str(value)
    return f"'{getattr(value, 'value', value)}'"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "streams.toml"


def problems_of(file: Path, text: str) -> list[str]:
    """What is wrong with a file, without its path, which each line begins with."""
    file.write_text(text)
    problems = read_config(file, options.tables()).problems
    assert all(problem.startswith(f"{file}: ") for problem in problems)
    return [problem.removeprefix(f"{file}: ") for problem in problems]


@pytest.mark.parametrize("setting", ALL)
def test_each_setting_is_taken_from_the_file_and_the_environment_wins(
    file: Path, setting: Setting
) -> None:
    _, value = other_than_default(setting)
    file.write_text(f"[{TABLE_OF[setting.name]}]\n{setting.name} = {in_toml(value)}\n")
    beside = BESIDE.get(setting.name, {})
    flags = {"config": str(file)}
    expected = str(file.parent / value) if setting.is_path else value

    assert value_of(options.settings(beside | flags, {}), setting) == expected
    named = {"DURABLE_STREAMS_CONFIG": str(file)}
    assert value_of(options.settings(beside, named), setting) == expected
    if setting.default_text:
        default = setting.default_text.partition(",")[0]
        by_both = options.settings(beside | flags, {setting.variable: default})
        assert value_of(by_both, setting) == setting.default


def test_a_flag_wins_over_the_environment_and_that_over_the_file(file: Path) -> None:
    file.write_text(
        "[server]\nport = 1\n[http]\nburst_s = 1\ncors_origin = ['https://a', 'https://b']\n"
    )
    environment = {
        "DURABLE_STREAMS_PORT": "2",
        "DURABLE_STREAMS_CONFIG": str(file),
        "DURABLE_STREAMS_CORS_ORIGIN": "https://c",
    }
    said = options.told(parsed("--port", "3"), environment)
    assert said.problems == []
    assert said.values == {"port": 3, "burst_s": 1.0, "cors_origin": ("https://c",)}
    assert said.origins == {
        "port": Origin(Source.FLAG, "--port"),
        "burst_s": Origin(Source.FILE, str(file)),
        "cors_origin": Origin(Source.ENVIRONMENT, "DURABLE_STREAMS_CORS_ORIGIN"),
    }


def test_the_flag_for_the_file_wins_over_its_name_in_the_environment(file: Path) -> None:
    file.write_text("[server]\nport = 1\n")
    environment = {"DURABLE_STREAMS_CONFIG": str(file.parent / "other")}
    given = options.settings(parsed("--config", str(file)), environment)
    assert given.process.port == 1
    assert options.unknown_in(environment) == []


@pytest.mark.parametrize("name", ["DURABLE_STREAMS_CONFIG", "--config"])
def test_a_file_without_a_name_is_refused(name: str) -> None:
    flags = parsed("--config", "") if name == "--config" else {}
    environment = {"DURABLE_STREAMS_CONFIG": ""} if not flags else {}
    with pytest.raises(StartError, match=f"^{name} is empty"):
        options.settings(flags, environment)


PATHS = {setting.name for setting in options.known() if setting.is_path}


def test_every_setting_that_takes_a_path_is_known_to_be_one() -> None:
    metavars = options._METAVARS
    assert {
        name for name, told in metavars.items() if told in {"FILE", "PATH"} and name != "prefix"
    } == PATHS


@pytest.mark.parametrize("name", sorted(PATHS))
def test_a_relative_path_begins_at_the_directory_of_the_file(file: Path, name: str) -> None:
    file.write_text(f"[{TABLE_OF[name]}]\n{name} = 'below/it'\n")
    assert read_config(file, options.tables()).values == {name: str(file.parent / "below" / "it")}
    near = Path(os.path.relpath(file))
    assert read_config(near, options.tables()).values == {name: str(near.parent / "below" / "it")}
    file.write_text(f"[{TABLE_OF[name]}]\n{name} = '/above/it'\n")
    assert read_config(file, options.tables()).values == {name: "/above/it"}


def test_a_path_that_is_not_given_is_none(file: Path) -> None:
    file.write_text("[access]\ntokens = ''\n")
    assert options.settings({"config": str(file)}, {}).access.tokens == ""


REFUSED = [
    ("[http]\nmax_connections = '1'", "[http] max_connections has to be a whole number from 1 on"),
    ("[http]\nmax_connections = 0", "whole number from 1 on, not 0"),
    ("[http]\nmax_connections = 1.0", "whole number from 1 on, not 1.0"),
    ("[http]\nmax_connections = true", "whole number from 1 on, not true"),
    (f"[http]\nmax_connections = {MAX_NUMBER + 1}", "not 1000000000000000001"),
    ("[server]\nport = 65536", "[server] port has to be a whole number from 0 to 65535, not 65536"),
    ("[http]\nburst_s = -0.5", "[http] burst_s has to be a number of seconds from 0 on, not -0.5"),
    ("[http]\nburst_s = nan", "a number of seconds from 0 on, not nan"),
    ("[http]\nburst_s = inf", "a number of seconds from 0 on, not inf"),
    (f"[http]\nburst_s = 1{'0' * 400}", "a number of seconds from 0 on, not 1000000000"),
    ("[http]\nrequests_per_s = []", "[http] requests_per_s has to be a number from 0 on, not this"),
    ("[http]\naccess_log = 'true'", "[http] access_log has to be true or false, not this text"),
    ("[http]\naccess_log = 1", "[http] access_log has to be true or false, not 1"),
    ("[http]\nprefix = 'x'", "[http] prefix 'x' is not a prefix: give a URL path"),
    ("[http]\nprefix = 1979-05-27", "[http] prefix has to be a text that is not empty, not a date"),
    ("[http]\ncors_origin = 'x'", "[http] cors_origin has to be an array of texts"),
    ("[http]\ncors_origin = [1]", "[http] cors_origin has to be an array of texts"),
    ("[http]\ncors_origin = [' ']", "[http] cors_origin has to be an array of texts, none of them"),
    ('[http]\ncors_origin = ["\\n"]', "[http] cors_origin has to be an array of texts, none of"),
    ("[server]\ndata_dir = ''", "[server] data_dir has to be a text that is not empty"),
    ('[access]\ntokens = "a\\u0000"', "[access] tokens has to be a text without control"),
    ('[access]\ntokens = "a\\u007f"', "[access] tokens has to be a text without control"),
    ("[access]\ntokens = {}", "[access] tokens has to be a text without control characters, not a"),
    (
        "[storage]\ndurability = 'some'",
        '[storage] durability has to be one of "fsync", "interval", "none", not "some"',
    ),
    ("[storage]\ndurability = 1", 'one of "fsync", "interval", "none", not 1'),
    ("[server]\nprot = 1", "[server] prot is no setting: is it port that was meant?"),
    ("[server]\nburst = 1", "[server] burst is no setting: is it burst_s of [http] that was meant"),
    ("[server]\nburst_s = 1", "[server] burst_s is no setting of this table: it belongs into [htt"),
    ("[server]\nx = 1", "[server] x is no setting"),
    ("port = 1", "port stands in no table: it belongs into [server]"),
    ("prot = 1", "prot is no setting: is it port of [server] that was meant?"),
    ("[htpp]\nport = 1", "[htpp] is no table of settings: is it [http] that was meant?"),
    ("[zzz]", "[zzz] is no table of settings: there are [server], [http], [access], [storage]"),
    ("[[http]]\nport = 1", "[http] has to be a table, not this array"),
    ("http = 1", "[http] has to be a table, not 1"),
    ('[server]\n"a\\n\\u0007" = 1', "[server] 'a\\n\\x07' is no setting"),
    ("[server", "it is not TOML: "),
    ("[http]\nburst_s = 1\nburst_s = 2", "it is not TOML: "),
    (f"[http]\nburst_s = {'9' * 5000}", "it is not TOML that anybody could have meant"),
    (f"[http]\nburst_s = {'[' * 30_000}", "it is not TOML that anybody could have meant"),
]


@pytest.mark.parametrize(("text", "expected"), REFUSED)
def test_what_cannot_be_is_refused_with_file_table_and_key(
    file: Path, text: str, expected: str
) -> None:
    (problem,) = problems_of(file, text)
    assert expected in problem
    assert len(problem) < 250
    assert problem.isprintable()
    with pytest.raises(StartError):
        options.settings({"config": str(file)}, {})


def test_what_cannot_be_is_refused_although_a_flag_says_another(file: Path) -> None:
    file.write_text("[server]\nport = 'x'\n")
    with pytest.raises(StartError, match=r"\[server\] port has to be"):
        options.settings(parsed("--config", str(file), "--port", "1"), {})


def test_a_text_that_may_be_a_secret_is_not_repeated(file: Path) -> None:
    lines = [f"{name} = 'hunter2'" for name in ("jwt_leeway_s", "conceal")]
    problems = problems_of(file, "\n".join(["[access]", *lines, "jwt_secret = ['hunter2']"]))
    assert len(problems) == 3
    assert "hunter2" not in "".join(problems)


def test_all_problems_are_told_at_once_but_no_thousands(file: Path) -> None:
    first, second = problems_of(file, "[http]\nmax_connections = 0\n[server]\nprot = 1\n")
    assert "max_connections" in first
    assert "prot" in second
    many = "".join(f"x{number} = 1\n" for number in range(1000))
    problems = problems_of(file, f"[server]\n{many}")
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == f"and {1000 - MAX_PROBLEMS} more"


def test_what_settings_cannot_be_together_is_refused_with_the_file(file: Path) -> None:
    file.write_text("[storage]\nmax_streams = ['x']\n")
    with pytest.raises(StartError) as refused:
        options.settings({"config": str(file)}, {})
    assert str(refused.value).startswith("max_streams: ")
    assert str(refused.value).endswith(f" ({file}: [storage] max_streams)")


def test_time_without_an_end_is_told_by_toml(file: Path) -> None:
    file.write_text("[storage]\nheld_up_s = inf\n")
    assert options.settings({"config": str(file)}, {}).store.held_up_s == math.inf


def test_a_file_has_a_size_that_it_may_have(file: Path) -> None:
    text = "[server]\nport = 1\n"
    assert problems_of(file, text.ljust(MAX_FILE_BYTES, "\n")) == []
    file.write_text(text.ljust(MAX_FILE_BYTES + 1, "\n"))
    (problem,) = read_config(file, options.tables()).problems
    assert f"larger than {MAX_FILE_BYTES} bytes" in problem


def test_what_cannot_be_read_is_refused_by_its_name(file: Path) -> None:
    tables = options.tables()
    assert read_config(file, tables).problems == [
        f"{file} cannot be opened: No such file or directory"
    ]
    assert "is no regular file" in read_config(file.parent, tables).problems[0]
    os.mkfifo(file)
    assert "is no regular file" in read_config(file, tables).problems[0]
    file.unlink()
    file.write_bytes(b"\xff")
    assert read_config(file, tables).problems == [f"{file}: it is not UTF-8"]

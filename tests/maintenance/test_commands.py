"""The verbs as a person runs them."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import durable_streams
from tests.conftest import StartServer
from tools.server_process import ROOT

COMMAND = [sys.executable, "-W", "error", "-m", "durable_streams"]


def run(*arguments: str | Path) -> tuple[int, str, str]:
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def damage(data: Path) -> Path:
    file = next((data / "streams" / "bytes@").glob("*.seg"))
    file.write_bytes(b"FIRST." + file.read_bytes()[6:])
    return file


def test_verify_says_in_one_line_that_all_is_well(data: Path) -> None:
    code, out, error = run("verify", data)
    assert (code, error) == (0, "")
    assert out == "4 streams, 20 appends, 163 bytes: sound\n"


def test_verify_names_file_place_and_meaning_of_damage(data: Path) -> None:
    file = damage(data)
    code, out, _ = run("verify", data)
    assert code == 1
    assert out.splitlines()[0] == (
        f"damage: {file}, bytes 0 to 6: they fail the checksum in line 2 of the index "
        "(stream bytes); readers get wrong bytes behind 0000000000000000_0000000000000000"
    )
    assert "DAMAGED" in out


def test_verify_tells_programs_in_json(data: Path) -> None:
    file = damage(data)
    code, out, _ = run("verify", "--json", data)
    finding, summary = map(json.loads, out.splitlines())
    assert code == 1
    assert (finding["level"], finding["file"], finding["stream"]) == ("damage", str(file), "bytes")
    assert (summary["streams"], summary["damage"]) == (4, 1)


def test_verify_works_beside_a_server(data: Path, start_server: StartServer) -> None:
    start_server(data_dir=data)
    assert run("verify", data)[0] == 0


def test_torn_ends_are_told_on_demand(data: Path) -> None:
    index = next((data / "streams" / "bytes@").glob("*.idx"))
    index.write_bytes(index.read_bytes() + b'{"end')
    assert run("verify", data)[1].startswith("4 streams")
    code, out, _ = run("verify", "-v", data)
    assert code == 0
    assert "line 5: it is torn" in out


def test_progress_is_shown_on_a_terminal_only(data: Path) -> None:
    master, slave = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "verify", str(data)], cwd=ROOT, stdout=subprocess.PIPE, stderr=slave, check=False
    )
    os.close(slave)
    shown = os.read(master, 10_000)
    os.close(master)
    assert done.returncode == 0
    assert b"1 stream, 0 MB" in shown


def test_repair_plans_then_repairs_then_has_nothing_to_do(data: Path) -> None:
    damage(data)
    planned, out, _ = run("repair", data)
    assert planned == 1
    assert "--apply" in out
    assert run("verify", data)[0] == 1
    assert run("repair", "--apply", data)[0] == 0
    assert run("verify", data)[0] == 0
    assert run("repair", data)[:2] == (0, "nothing has to be repaired\n")


def test_a_directory_that_a_server_uses_is_not_repaired(
    data: Path, start_server: StartServer
) -> None:
    start_server(data_dir=data)
    code, _, error = run("repair", "--apply", data)
    assert code == 2
    assert "in use by another server" in error


def test_what_is_no_data_directory_is_one_line_and_exit_2(tmp_path: Path) -> None:
    for verb in ("verify", "repair", "dump"):
        code, out, error = run(verb, tmp_path / "missing")
        assert (code, out) == (2, "")
        assert error.startswith("durable-streams: error: ")
        assert len(error.splitlines()) == 1


def test_dump_prints_each_kind_of_file(data: Path) -> None:
    stream = data / "streams" / "bytes@"
    index = run("dump", next(stream.glob("*.idx")))[1]
    assert "line 2: bytes 0 to 6, 1 messages" in index
    assert "stream seq '0001'" in index
    assert ", closed" in index
    assert '"content_type": "application/octet-stream"' in run("dump", stream / "meta.json")[1]
    whole = run("dump", stream)[1]
    assert "ends at 0000000000000000_0000000000000013, closed" in whole
    journal = run("dump", data)[1]
    assert "generation 1, from batch 1 on" in journal
    assert "create 'bytes'" in journal
    assert "producer 'writer': epoch 1, sequence 7" in run("dump", data / "streams/chat/room@")[1]


def test_dump_spells_paths_as_text(tmp_path: Path) -> None:
    async def fill() -> None:
        async with durable_streams.open(tmp_path / "data") as streams:
            await streams.create("runs%2F1", data=b"one")
            await streams.fork("copies/runs%2F1", "runs%2F1")

    asyncio.run(fill())
    journal = run("dump", tmp_path / "data")[1]
    assert "create 'runs%2F1'" in journal
    assert "adopt 'copies/runs%2F1'" in journal
    assert "fork_path 'copies/runs%2F1'" in journal


def test_dump_shows_content_whole_on_demand(data: Path) -> None:
    [journal] = (data / "journal").iterdir()
    assert "..." in run("dump", journal)[1]
    assert '"last_use_ms"' in run("dump", "--full", journal)[1]


def test_dump_marks_damage_and_torn_ends(data: Path) -> None:
    index = next((data / "streams" / "bytes@").glob("*.idx"))
    sound = index.read_bytes()
    index.write_bytes(sound + b"{torn")
    assert "line 5 TORN: b'{torn'" in run("dump", index)[1]
    index.write_bytes(sound.replace(b'"end":13', b'"end":12', 1))
    assert "line 3 DAMAGED: the line does not continue" in run("dump", index)[1]
    sidecar = index.parent / "meta.json"
    sidecar.write_bytes(sidecar.read_bytes().replace(b"octet", b"OCTET"))
    assert run("dump", sidecar)[1].startswith("DAMAGED: its checksum does not match")


def test_output_that_nobody_reads_on_ends_quietly(data: Path) -> None:
    [journal] = (data / "journal").iterdir()
    command = " ".join([*COMMAND, "dump", str(journal)])
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""

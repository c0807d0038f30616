"""The file of tokens: what it may say, and how it is changed."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable_streams.access import token_file, tokens
from durable_streams.access.grants import Grant
from durable_streams.access.small_files import FileProblem
from durable_streams.access.token_file import (
    MAX_FILE_BYTES,
    MAX_GRANTS,
    MAX_NOTE_CHARACTERS,
    MAX_TOKENS,
    NoSuchToken,
    TokenExists,
    TokenFileError,
    add_token,
    parse_tokens,
    read_tokens,
    remove_token,
)
from tests.access.known import DIGEST, GRANT, OTHER, record, token

if TYPE_CHECKING:
    from random import Random

FILE = Path("tokens.toml")


def refusal(text: str | bytes) -> str:
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    with pytest.raises(TokenFileError) as caught:
        parse_tokens(FILE, content)
    said = str(caught.value)
    assert said.startswith("tokens.toml: ")
    assert len(said.splitlines()) == 1
    return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


# What it may say


def test_a_token_has_an_id_a_digest_and_grants() -> None:
    text = token('expires = 2027-01-31T01:00:00+01:00\nnote = "the web front end"') + (
        '[[token.grant]]\nscopes = ["append", "read"]\nglob = "logs/*/a%2Fb"\n'
        '[[token.grant]]\nscopes = ["delete"]\npath = "one"\n'
    )
    [found] = parse_tokens(FILE, text.encode()).tokens
    assert (found.id, found.digest, found.note) == ("web", DIGEST, "the web front end")
    assert found.expires_at_s == datetime(2027, 1, 31, tzinfo=UTC).timestamp()
    assert found.grants == (
        Grant.on_prefix("chat", ["read"]),
        Grant.on_glob("logs/*/a%2Fb", ["append", "read"]),
        Grant.on_path("one", ["delete"]),
    )


def test_a_token_without_expires_does_not_end() -> None:
    [found] = parse_tokens(FILE, token().encode()).tokens
    assert found.expires_at_s == math.inf


def test_tokens_are_found_by_id_and_by_digest_in_small_digits() -> None:
    text = token(digest=DIGEST.upper()) + token(identity="b", digest=OTHER)
    found = parse_tokens(FILE, text.encode())
    assert [one.id for one in found.tokens] == ["web", "b"]
    assert found.by_id["web"] is found.by_digest[DIGEST] is found.tokens[0]


@pytest.mark.parametrize("text", ["", "# nobody yet\n", "token = []"])
def test_a_file_without_tokens_is_one(text: str) -> None:
    assert parse_tokens(FILE, text.encode()).tokens == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("token = 1", "write [[token]]"),
        ("token = [1]", "write [[token]]"),
        ("tokens = []", "the file has 'tokens', which means nothing"),
        (token("scope = 1"), "token 'web' has 'scope', which means nothing"),
        ("[[token]]", "token number 1 needs an id"),
        (token(identity=""), "token number 1 needs an id"),
        (token(identity="a.b"), "token number 1 needs an id"),
        (token(identity="a:b"), "token number 1 needs an id"),
        (token(identity="a\\n"), "token number 1 needs an id"),
        (token(identity="ä"), "token number 1 needs an id"),
        (token(identity="a" * 65), "token number 1 needs an id"),
        ("[[token]]\nid = 7", "token number 1 needs an id"),
        (token(digest=DIGEST[:-1]), "token 'web': sha256 is not 64 hexadecimal digits"),
        (token(digest=DIGEST[:-1] + "g"), "token 'web': sha256 is not 64 hexadecimal digits"),
        (token(digest=DIGEST + "\\n"), "token 'web': sha256 is not 64 hexadecimal digits"),
        ('[[token]]\nid = "web"\n' + GRANT, "token 'web': sha256 is not 64"),
        (token(digest=hashlib.sha256(b"").hexdigest()), "that of an empty text"),
        (token("expires = 2027-01-31T00:00:00"), "with an offset"),
        (token("expires = 2027-01-31"), "with an offset"),
        (token('expires = "2027-01-31T00:00:00Z"'), "without quotes"),
        (token("note = 7"), "note is not a text"),
        (token(f'note = "{"x" * (MAX_NOTE_CHARACTERS + 1)}"'), "note is not a text"),
        (token(grant=""), "token 'web' has no grant"),
        (token(grant="grant = []"), "token 'web' has no grant"),
        (token(grant="grant = 1"), "token 'web' has no grant"),
        (token(grant="grant = [1]"), "token 'web', grant 1 is not a table"),
        (token(grant=GRANT * (MAX_GRANTS + 1)), "more than 64 grants"),
        (token() + token(digest=OTHER), "two tokens with the id 'web'"),
        (token() + token(identity="b"), "the tokens 'web' and 'b' have the same sha256"),
        (token() + token(identity="b", digest=DIGEST.upper()), "have the same sha256"),
        ("[[token]", "it is not TOML"),
        (token() + "\ufeff", "it is not TOML"),
        (b"\xff", "it is not UTF-8"),
        (token("note = '\ud800'"), "it is not UTF-8"),
        ("token = " + "[" * 100_000, "it is not TOML"),
        (f"token = {'9' * 5000}", "it is not TOML"),
    ],
)
def test_what_it_may_not_say(text: str | bytes, said: str) -> None:
    assert said in refusal(text)


@pytest.mark.parametrize(
    ("grant", "said"),
    [
        ('prefix = "a"', "scopes is not a list of texts"),
        ('scopes = "read"\nprefix = "a"', "scopes is not a list of texts"),
        ('scopes = [1]\nprefix = "a"', "scopes is not a list of texts"),
        ('scopes = []\nprefix = "a"', "a grant needs scopes"),
        ('scopes = ["READ"]\nprefix = "a"', "'READ' is no scope"),
        ('scopes = ["read"]', "one of path, prefix and glob"),
        ('scopes = ["read"]\nprefix = "a"\npath = "a"', "one of path, prefix and glob"),
        ('scopes = ["read"]\nprefix = 1', "path, prefix and glob are texts"),
        ('scopes = ["read"]\nprefix = "a"\nextra = 1', "has 'extra', which means nothing"),
        ('scopes = ["read"]\npath = ""', "no empty"),
        ('scopes = ["read"]\nglob = "a//b"', "no empty"),
        ('scopes = ["read"]\nprefix = "__ds"', "reserved"),
        (f'scopes = ["read"]\nglob = "{"a/" * 520}a"', "longer than 1024 bytes"),
    ],
)
def test_what_a_grant_may_not_say(grant: str, said: str) -> None:
    refused = refusal(token(grant=f"{GRANT}[[token.grant]]\n{grant}"))
    assert "token 'web', grant 2" in refused
    assert said in refused


def test_limits_are_those_that_are_said() -> None:
    assert parse_tokens(FILE, token(grant=GRANT * MAX_GRANTS).encode())
    assert parse_tokens(FILE, token(f'note = "{"x" * MAX_NOTE_CHARACTERS}"').encode())
    assert parse_tokens(FILE, token(identity="a" * 64).encode())


@pytest.mark.slow
def test_there_are_ten_thousand_tokens_and_no_more() -> None:
    texts = [
        token(identity=f"t{number}", digest=hashlib.sha256(b"%d" % number).hexdigest())
        for number in range(MAX_TOKENS + 1)
    ]
    assert len(parse_tokens(FILE, "".join(texts[:-1]).encode()).tokens) == MAX_TOKENS
    assert "more than 10000 tokens" in refusal("".join(texts))


@pytest.mark.parametrize(
    "text",
    [
        token(digest="dst_web_SECRET"),
        token(identity="dst_web_SECRET"),
        token("sha256 = 'SECRET'"),
        '[[token]]\nid = "web"\nsha256 = SECRET',
        "[[token]]\nSECRET SECRET",
    ],
)
def test_no_error_repeats_what_may_be_a_token_in_the_wrong_place(text: str) -> None:
    assert "SECRET" not in refusal(text)


def test_no_text_of_a_token_has_its_digest() -> None:
    [found] = parse_tokens(FILE, token().encode()).tokens
    assert DIGEST not in f"{found!r} {found.principal!r} {found}"


# New tokens


def test_a_new_token_is_its_id_and_32_random_bytes() -> None:
    text = token_file.new_text("web", lambda count: b"\xfb" * count)
    assert text == "dst_web_" + "-_v7" * 10 + "-_s"
    assert token_file.id_in(text) == "web"


@pytest.mark.parametrize("text", ["", "dst_web_", "dst_a_b_" + "A" * 43, "dst_a_" + "A" * 44])
def test_a_text_that_was_not_made_here_names_no_id(text: str) -> None:
    assert token_file.id_in(text) is None


def test_the_digest_is_what_sha256sum_says_of_the_whole_text(path: Path) -> None:
    made, text = tokens.made(tokens.Wanted((Grant.on_prefix("", ["read"]),)))
    said = subprocess.run(["sha256sum"], input=text.encode(), capture_output=True, check=True)
    assert said.stdout.decode().split()[0] == made.digest


# Reading


@pytest.mark.parametrize("size_bytes", [MAX_FILE_BYTES, MAX_FILE_BYTES + 1])
def test_a_file_is_read_up_to_its_limit(path: Path, size_bytes: int) -> None:
    path.write_bytes(b"#" * size_bytes)
    if size_bytes <= MAX_FILE_BYTES:
        assert read_tokens(path).tokens == ()
    else:
        with pytest.raises(FileProblem, match="larger than"):
            read_tokens(path)


def test_what_is_no_file_is_refused_at_once(path: Path) -> None:
    with pytest.raises(FileProblem, match="No such file"):
        read_tokens(path)
    os.mkfifo(path)
    with pytest.raises(FileProblem, match="no regular file"):
        read_tokens(path)
    with pytest.raises(FileProblem):
        read_tokens(path.parent)
    with pytest.raises(FileProblem):
        add_token(path, record("web"))


# Changing


COMMENTED = f"""# Who may do what.

# The web front end
[[token]]
id = 'web'   # as in the logs
sha256 = "{DIGEST}"
[[token.grant]]
scopes = [
    "read",  # for all
]
prefix = "chat"

# The worker; ask Ada
  [[ token ]]
  id = "worker"
  sha256 = "{OTHER}"
  [[token.grant]]
  scopes = ["append"]
  path = "jobs"

# The end
"""


def test_a_token_is_written_behind_the_others_and_all_else_stays(path: Path) -> None:
    path.write_text(COMMENTED)
    added = record("new", note='"quoted"\n\\ \x7f \u2028 😀\t')
    edited = add_token(path, added)
    text = path.read_text()
    assert text.startswith(COMMENTED + "\n[[token]]\n")
    assert read_tokens(path).tokens[2] == added
    assert edited.content == path.read_bytes()
    assert edited.value == read_tokens(path)


def test_a_token_is_removed_and_the_comments_around_it_stay(path: Path) -> None:
    path.write_text(COMMENTED)
    remove_token(path, "web")
    assert path.read_text() == COMMENTED.replace(
        COMMENTED[COMMENTED.index("[[token]]") : COMMENTED.index("\n# The worker")], ""
    )
    remove_token(path, "worker")
    assert path.read_text() == (
        "# Who may do what.\n\n# The web front end\n\n# The worker; ask Ada\n\n# The end\n"
    )


def test_what_was_added_and_removed_leaves_nothing_behind(path: Path) -> None:
    path.write_text(COMMENTED)
    add_token(path, record("new"))
    remove_token(path, "new")
    assert path.read_text() == COMMENTED


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_file_may_end_in_any_way(path: Path, end: str) -> None:
    line_end = end or "\n"
    text = token().replace("\n", line_end).rstrip() + end
    path.write_bytes(text.encode())
    add_token(path, record("new"))
    assert [one.id for one in read_tokens(path).tokens] == ["web", "new"]
    changed = path.read_bytes().decode()
    assert changed.startswith(f"{text}{line_end if not end else ''}{line_end}[[token]]{line_end}")
    assert ("\r" in changed) == (end == "\r\n")
    assert "note" not in changed
    assert changed.count("\n") == changed.count(line_end)
    remove_token(path, "web")
    assert [one.id for one in read_tokens(path).tokens] == ["new"]


def test_one_empty_line_is_left_where_a_token_was(path: Path) -> None:
    first, second, third = (
        token(identity=name, digest=digest).rstrip()
        for name, digest in (("a", DIGEST), ("b", OTHER), ("c", "0" * 64))
    )
    for gone, text in (
        ("a", f"{second}\n\n{third}\n"),
        ("b", f"{first}\n\n{third}\n"),
        ("c", f"{first}\n\n{second}\n"),
    ):
        path.write_text(f"{first}\n\n{second}\n\n{third}\n")
        remove_token(path, gone)
        assert path.read_text() == text
    path.write_text(f"{first}\n\n{second}\n# at once\n{third}\n")
    remove_token(path, "b")
    assert path.read_text() == f"{first}\n\n# at once\n{third}\n"


_notes = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(_notes, min_size=1, max_size=4), st.randoms())
def test_any_tokens_can_be_written_and_removed(notes: list[str], chance: Random) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "tokens.toml"
        added = [record(f"t{number}", note) for number, note in enumerate(notes)]
        for one in added:
            add_token(path, one)
        assert read_tokens(path).tokens == tuple(added)
        gone = chance.choice(added)
        remove_token(path, gone.id)
        assert list(read_tokens(path).tokens) == [one for one in added if one != gone]


@pytest.mark.parametrize(
    "text",
    [
        'token = [{id = "web", sha256 = "%s", grant = [{scopes = ["read"], prefix = "a"}]}]',
        '[[token]]\nid = "web"\nsha256 = "%s"\nnote = """\n[[token]]\n"""\n' + GRANT,
    ],
)
def test_a_file_in_another_layout_is_left_as_it_is(path: Path, text: str) -> None:
    path.write_text(text % DIGEST)
    with pytest.raises(TokenFileError):
        remove_token(path, "web")
    assert path.read_text() == text % DIGEST


def test_ids_are_taken_once_and_removed_once(path: Path) -> None:
    add_token(path, record("web"))
    with pytest.raises(TokenExists):
        add_token(path, record("web"))
    remove_token(path, "web")
    with pytest.raises(NoSuchToken):
        remove_token(path, "web")


def test_nothing_is_made_where_nothing_is_to_be_removed(path: Path) -> None:
    with pytest.raises(NoSuchToken):
        remove_token(path, "web")
    assert not list(path.parent.iterdir())


def test_a_file_that_is_no_good_is_not_changed(path: Path) -> None:
    path.write_text("[[token]]\n")
    with pytest.raises(TokenFileError):
        add_token(path, record("web"))
    assert path.read_text() == "[[token]]\n"


def test_no_file_grows_beyond_what_can_be_read(path: Path) -> None:
    path.write_bytes(b"#" * (MAX_FILE_BYTES - 10))
    with pytest.raises(FileProblem, match="larger than"):
        add_token(path, record("web"))
    assert path.stat().st_size == MAX_FILE_BYTES - 10
    assert len(list(path.parent.iterdir())) == 1

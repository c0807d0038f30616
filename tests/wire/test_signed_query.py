"""The signature in the query of a request: found, and kept out of logs, by one rule."""

from __future__ import annotations

from urllib.parse import quote, unquote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from durable_streams.wire.signed_query import redacted, signed_in


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", (None, False)),
        ("offset=-1&live=sse", (None, False)),
        ("signed=1.a", ("1.a", False)),
        ("offset=-1&signed=1.a&live=sse", ("1.a", False)),
        ("signed=1%2Ea", ("1.a", False)),
        ("signed=a+b", ("a b", False)),
        ("%73igned=a", ("a", False)),
        ("%73%69%67%6e%65%64=a", ("a", False)),
        ("signed=a=b", ("a=b", False)),
        ("signed=", ("", False)),
        ("signed", ("", False)),
        ("signed=a&signed=b", ("a", True)),
        ("signed=a&%73igned=b", ("a", True)),
        ("signed&signed=a", ("", True)),
        ("signed=a&signed=a", ("a", True)),
        ("Signed=a", (None, False)),
        ("unsigned=a", (None, False)),
        ("+signed=a", (None, False)),
        ("x=signed", (None, False)),
        ("x;signed=a", (None, False)),
        ("%2573igned=a", (None, False)),
    ],
)
def test_it_is_found_however_it_is_escaped(query: str, found: tuple[str | None, bool]) -> None:
    assert signed_in(query) == found


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        ("/v1/stream/a", "/v1/stream/a"),
        ("/v1/stream/signed=b", "/v1/stream/signed=b"),
        ("/a?offset=-1", "/a?offset=-1"),
        ("/a?signed=SECRET", "/a?signed=[signature]"),
        ("/a?live=sse&signed=SECRET&cursor=2", "/a?live=sse&signed=[signature]&cursor=2"),
        ("/a?%73igned=SECRET", "/a?%73igned=[signature]"),
        ("/a?signed=SECRET&signe%64=SECRET", "/a?signed=[signature]&signe%64=[signature]"),
        ("/a?signed=SEC?signed=RET", "/a?signed=[signature]"),
        ("http://host/a?signed=SECRET", "http://host/a?signed=[signature]"),
        ("/a?signed", "/a?signed"),
        ("/a?100%&signed=SECRET", "/a?[hidden]&signed=[signature]"),
        ("/a?access_token=SECRET&offset=-1", "/a?[hidden]&offset=-1"),
        ("/a?SECRET==", "/a?[hidden]"),
        ("/a?%6fffset=now&Offset=SECRET", "/a?%6fffset=now&[hidden]"),
        ("/a?&", "/a?&"),
        ("http://user:SECRET@host/a?offset=-1", "[hidden]@host/a?offset=-1"),
        ("/a@b?limit=@", "/a@b?limit=@"),
    ],
)
def test_it_is_kept_out_of_a_log_however_it_is_escaped(target: str, logged: str) -> None:
    assert redacted(target) == logged


_escaped = st.lists(st.booleans(), min_size=6, max_size=6).map(
    lambda chosen: "".join(
        f"%{ord(character):02x}" if one else character
        for one, character in zip(chosen, "signed", strict=True)
    )
)
_pairs = st.lists(
    st.tuples(_escaped | st.text("signed%7=+?", max_size=8), st.text("aZ%3&+=?;#", max_size=6)),
    max_size=4,
)


@given(_pairs)
@example([("signed", "%3d&signed")])
def test_what_is_found_in_a_query_is_not_in_the_log(pairs: list[tuple[str, str]]) -> None:
    query = "&".join(f"{name}={value}" for name, value in pairs)
    found, _ = signed_in(query)
    logged = redacted(f"/a?{query}")
    left = signed_in(logged.removeprefix("/a?"))[0]
    assert left in ({"[signature]"} if found else {None, "", "[signature]"})


@given(st.text(max_size=20))
def test_any_text_is_found_as_it_was_quoted(text: str) -> None:
    assert signed_in(f"a=b&signed={quote(text, safe='', errors='replace')}")[0] == unquote_plus(
        quote(text, safe="", errors="replace")
    )

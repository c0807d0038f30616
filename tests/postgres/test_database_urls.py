"""The URL of a database: what is refused, and that no password gets anywhere."""

from __future__ import annotations

import pytest

from durable_streams.postgres.urls import NoDatabaseUrl, parse

SECRET = "geh3im"


@pytest.mark.parametrize(
    ("text", "shown", "has_password"),
    [
        ("postgresql://ds@db1/streams", "postgresql://ds@db1/streams", False),
        (f"postgresql://ds:{SECRET}@db1/streams", "postgresql://ds@db1/streams", True),
        (f"postgres://ds@db1/streams?password={SECRET}", "postgres://ds@db1/streams", True),
        (f"postgres://ds@db1/streams?sslpassword={SECRET}", "postgres://ds@db1/streams", True),
        (f"postgresql://ds:{SECRET}@[::1]:1,db2/x", "postgresql://ds@[::1]:1,db2/x", True),
        ("postgresql:///streams?host=/run/postgresql", "postgresql://localhost/streams", False),
        ("postgresql://ds@db1/a%20b", "postgresql://ds@db1/a b", False),
        ("postgresql://ds@db1/a%0ab", "postgresql://ds@db1/a\\nb", False),
    ],
)
def test_people_are_shown_where_it_is_and_no_password(
    text: str, shown: str, has_password: bool
) -> None:
    url = parse(text)
    assert str(url) == shown
    assert url.has_password == has_password
    assert url.text == text
    assert SECRET not in repr(url) + str(url)


@pytest.mark.parametrize(
    "text",
    [
        f"mysql://ds:{SECRET}@db1/streams",
        f"postgresql://ds:{SECRET}#1@db1/streams",
        f"postgresql://ds:{SECRET}/1@db1/streams",
        f"postgresql://ds:{SECRET}?1@db1/streams",
        f"postgresql://ds:{SECRET}@1@db1/streams",
        f"postgresql://ds:{SECRET}/streams",
        f"postgresql://ds@db1,db2:{SECRET}/streams",
        f"postgresql://ds@db1/streams?{SECRET}",
        f"postgresql://[{SECRET}/streams",
        f"postgresql://ds:{SECRET}@db1/str\0eams",
        "data",
        "",
    ],
)
def test_what_is_none_is_refused_without_any_part_of_it(text: str) -> None:
    with pytest.raises(NoDatabaseUrl) as caught:
        parse(text)
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_host_of_a_list_has_a_url_of_its_own() -> None:
    url = parse(f"postgresql://ds:{SECRET}@db1:5433,db2/streams?sslmode=require")
    assert [one.text for one in url.each_host()] == [
        f"postgresql://ds:{SECRET}@db1:5433/streams?sslmode=require",
        f"postgresql://ds:{SECRET}@db2/streams?sslmode=require",
    ]
    assert [str(one) for one in url.each_host()] == [
        "postgresql://ds@db1:5433/streams",
        "postgresql://ds@db2/streams",
    ]
    alone = parse("postgresql:///streams?host=/run/postgresql")
    assert alone.each_host() == [alone]

"""Which web pages are welcome, and by which names: tables of what browsers say."""

from __future__ import annotations

from typing import Final

import pytest
from multidict import CIMultiDict

from durable_streams.model.errors import ForeignHost, ForeignPage
from durable_streams.wire.pages import Pages
from durable_streams.wire.replies import FOR_ALL, FOR_NO_PAGE, Common

Lines = list[tuple[str, str]]

OPEN_ON_LOOPBACK: Final = Pages(any_by_default=False, of_this_machine=True, loopback_hosts=True)
OPEN_ON_NETWORK: Final = Pages(any_by_default=False, of_this_machine=True)
WITH_TOKENS: Final = Pages(any_by_default=True)
NAMED: Final = Pages(["https://app.example"], any_by_default=True)
OPEN_AND_NAMED: Final = Pages(["https://app.example"], any_by_default=False, of_this_machine=True)
IN_APPLICATION: Final = Pages(any_by_default=False, with_cookies=True)
IN_APPLICATION_NAMED: Final = Pages(
    ["https://app.example"], any_by_default=False, with_cookies=True
)
ALL: Final = Pages(["*"], any_by_default=False)
HOSTS: Final = Pages(hosts=["streams.example", "other.example:8080"], any_by_default=True)

LOCAL, REMOTE = "localhost:4437", "streams.example"


def lines(
    host: str | None, origin: str | None = None, site: str = "", dest: str = ""
) -> CIMultiDict[str]:
    found: Lines = [] if host is None else [("Host", host)]
    found += [] if origin is None else [("Origin", origin)]
    found += [("Sec-Fetch-Site", site)] if site else []
    found += [("Sec-Fetch-Dest", dest)] if dest else []
    return CIMultiDict(found)


def named(origin: str, *, with_cookies: bool = False) -> Common:
    return Common.for_origin(origin, with_cookies=with_cookies)


def test_programs_that_are_no_browsers_are_welcome_everywhere() -> None:
    for pages in (OPEN_ON_NETWORK, NAMED, IN_APPLICATION, OPEN_AND_NAMED):
        assert pages.admit("", lines(REMOTE)) == FOR_NO_PAGE
    assert WITH_TOKENS.admit("", lines(REMOTE)) == FOR_ALL
    assert OPEN_ON_LOOPBACK.admit("", lines(LOCAL)) == FOR_NO_PAGE


WELCOME: Final = [
    # Whoever serves, the name by which it is asked, and the page's origin.
    (OPEN_ON_LOOPBACK, LOCAL, "http://localhost:4437"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://localhost:5173"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://LocalHost:5173"),
    (OPEN_ON_LOOPBACK, LOCAL, "https://localhost"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://127.0.0.1:3000"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://[::1]:3000"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://app.localhost"),
    (OPEN_ON_LOOPBACK, "127.0.0.1:4437", "http://localhost:5173"),
    (OPEN_ON_NETWORK, REMOTE, "http://streams.example"),
    (OPEN_ON_NETWORK, REMOTE, "http://STREAMS.example:80"),
    (OPEN_ON_NETWORK, REMOTE, "https://streams.example"),
    (OPEN_ON_NETWORK, "streams.example:443", "https://streams.example"),
    (OPEN_ON_NETWORK, "streams.example.", "https://streams.example"),
    (OPEN_ON_NETWORK, "streams.example:8080", "http://streams.example:8080"),
    (OPEN_AND_NAMED, REMOTE, "https://app.example"),
    (OPEN_AND_NAMED, REMOTE, "https://app.example:443"),
    (OPEN_AND_NAMED, REMOTE, "http://localhost:5173"),
    (NAMED, REMOTE, "https://app.example"),
    (NAMED, REMOTE, "https://streams.example"),
]

FOREIGN: Final = [
    (OPEN_ON_LOOPBACK, LOCAL, "http://evil.test"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://localhost.evil.test"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://127.0.0.1.evil.test"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://evillocalhost"),
    (OPEN_ON_LOOPBACK, LOCAL, "null"),
    (OPEN_ON_LOOPBACK, LOCAL, ""),
    (OPEN_ON_LOOPBACK, LOCAL, "file://"),
    (OPEN_ON_LOOPBACK, LOCAL, "chrome-extension://abcdef"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://localhost:5173/path"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://localhost:5173, http://evil.test"),
    (OPEN_ON_LOOPBACK, LOCAL, "http://localhost@evil.test"),
    (OPEN_ON_NETWORK, REMOTE, "http://streams.example:8080"),
    (OPEN_ON_NETWORK, REMOTE, "http://streams.example:443"),
    (OPEN_ON_NETWORK, "streams.example:8080", "http://streams.example"),
    (OPEN_ON_NETWORK, REMOTE, "http://sub.streams.example"),
    (OPEN_ON_NETWORK, REMOTE, "http://example"),
    (OPEN_ON_NETWORK, REMOTE, "null"),
    (OPEN_AND_NAMED, REMOTE, "http://app.example"),
    (OPEN_AND_NAMED, REMOTE, "https://app.example:444"),
    (OPEN_AND_NAMED, REMOTE, "https://app.example.evil.test"),
    (OPEN_AND_NAMED, REMOTE, "https://evil-app.example"),
    (NAMED, REMOTE, "https://other.example"),
    (NAMED, REMOTE, "http://localhost:5173"),
    (NAMED, REMOTE, "null"),
    (IN_APPLICATION, REMOTE, "https://evil.test"),
    (IN_APPLICATION, LOCAL, "http://localhost:5173"),
    (IN_APPLICATION, REMOTE, "null"),
    (IN_APPLICATION_NAMED, REMOTE, "https://evil.test"),
    (OPEN_ON_NETWORK, "no host", "http://no host"),
    (OPEN_ON_NETWORK, "", "http://"),
]


@pytest.mark.parametrize(("pages", "host", "origin"), WELCOME)
def test_a_page_that_is_welcome_is_told_so_by_its_own_origin(
    pages: Pages, host: str, origin: str
) -> None:
    common = pages.admit("", lines(host, origin, site="cross-site"))
    assert common == named(origin)
    assert ("Access-Control-Allow-Origin", origin) in common.headers
    assert ("Vary", "Origin") in common.headers
    assert "Access-Control-Allow-Credentials" not in common.lines


@pytest.mark.parametrize(("pages", "host", "origin"), FOREIGN)
@pytest.mark.parametrize("site", ["", "cross-site", "same-origin", "none"])
def test_a_page_of_another_origin_is_refused_whatever_else_it_says(
    pages: Pages, host: str, origin: str, site: str
) -> None:
    with pytest.raises(ForeignPage):
        pages.admit("", lines(host, origin, site=site))


def test_where_credentials_say_who_may_pages_of_all_origins_are_welcome() -> None:
    for pages in (WITH_TOKENS, ALL):
        for origin in ("https://evil.test", "null", "nonsense"):
            assert pages.admit("", lines(REMOTE, origin, site="cross-site")) == FOR_ALL


def test_what_is_not_for_all_is_for_pages_of_the_server_and_named_ones() -> None:
    for pages in (WITH_TOKENS, ALL):
        for origin in ("https://evil.test", "null", "http://localhost:5173"):
            with pytest.raises(ForeignPage):
                pages.admit("", lines(REMOTE, origin), for_all=False)
        own = "https://streams.example"
        assert pages.admit("", lines(REMOTE, own), for_all=False) == named(own)
        with pytest.raises(ForeignPage):
            pages.admit("", lines(REMOTE, site="cross-site"), for_all=False)
    app = "https://app.example"
    assert NAMED.admit("", lines(REMOTE, app), for_all=False) == named(app)


def test_cookies_are_for_named_origins_of_an_application_only() -> None:
    app, own = "https://app.example", "https://streams.example"
    assert IN_APPLICATION_NAMED.admit("", lines(REMOTE, app)) == named(app, with_cookies=True)
    assert IN_APPLICATION_NAMED.admit("", lines(REMOTE, own)) == named(own)
    assert NAMED.admit("", lines(REMOTE, app)) == named(app)


def test_where_all_pages_are_welcome_their_cookies_are_not() -> None:
    """A browser adds them to what any page sends, which cannot read the answer, but has it done."""
    pages = Pages(["*", "https://app.example"], any_by_default=False, with_cookies=True)
    evil = lines(REMOTE, "https://evil.test", site="cross-site")
    assert pages.admit("", evil) == FOR_ALL
    for said in (evil, lines(REMOTE, site="cross-site"), lines(REMOTE, "null")):
        said.add("Cookie", "who=alice")
        with pytest.raises(ForeignPage):
            pages.admit("", said)
    for said, common in (
        (lines(REMOTE, "https://app.example"), named("https://app.example", with_cookies=True)),
        (lines(REMOTE, "https://streams.example"), named("https://streams.example")),
        (lines(REMOTE, site="same-origin"), FOR_NO_PAGE),
        (lines(REMOTE), FOR_NO_PAGE),
    ):
        said.add("Cookie", "who=alice")
        assert pages.admit("", said) == common


def test_several_lines_of_an_origin_are_nobodys() -> None:
    for pages in (OPEN_ON_LOOPBACK, OPEN_AND_NAMED, NAMED):
        said = lines(LOCAL, "http://localhost:4437")
        said.add("Origin", "http://localhost:4437")
        with pytest.raises(ForeignPage):
            pages.admit("", said)


SITES: Final = [
    # Without an Origin, as browsers ask for images, navigations and same-origin reads.
    ("same-origin", OPEN_ON_NETWORK, REMOTE, True),
    ("none", OPEN_ON_NETWORK, REMOTE, True),
    (" None ", OPEN_ON_NETWORK, REMOTE, True),
    ("same-site", OPEN_ON_NETWORK, REMOTE, False),
    ("cross-site", OPEN_ON_NETWORK, REMOTE, False),
    ("", OPEN_ON_NETWORK, REMOTE, True),
    ("whatever comes next", OPEN_ON_NETWORK, REMOTE, False),
    ("same-site", OPEN_ON_LOOPBACK, LOCAL, True),
    ("same-site", OPEN_ON_NETWORK, "app.localhost", True),
    ("cross-site", OPEN_ON_LOOPBACK, LOCAL, False),
    ("same-site", IN_APPLICATION, LOCAL, False),
    ("same-site", IN_APPLICATION, REMOTE, False),
    ("same-origin", IN_APPLICATION, REMOTE, True),
    ("cross-site", IN_APPLICATION_NAMED, REMOTE, False),
    ("cross-site", NAMED, REMOTE, False),
    ("cross-site", WITH_TOKENS, REMOTE, True),
]


@pytest.mark.parametrize(("site", "pages", "host", "is_welcome"), SITES)
def test_a_request_without_an_origin_goes_by_its_site(
    site: str, pages: Pages, host: str, is_welcome: bool
) -> None:
    if is_welcome:
        assert pages.admit("", lines(host, site=site)) in {FOR_NO_PAGE, FOR_ALL}
        return
    with pytest.raises(ForeignPage):
        pages.admit("", lines(host, site=site))


def test_of_several_sites_each_has_to_be_welcome() -> None:
    said = lines(REMOTE, site="same-origin")
    said.add("Sec-Fetch-Site", "cross-site")
    with pytest.raises(ForeignPage):
        OPEN_ON_NETWORK.admit("", said)


RUNS: Final = [
    "script",
    "style",
    "worker",
    "sharedworker",
    "serviceworker",
    "audioworklet",
    "paintworklet",
    "embed",
    "object",
    "xslt",
]


@pytest.mark.parametrize("dest", [*RUNS, "SCRIPT", " style "])
@pytest.mark.parametrize("pages", [WITH_TOKENS, ALL, OPEN_ON_NETWORK, IN_APPLICATION])
def test_no_page_gets_a_stream_as_a_program(pages: Pages, dest: str) -> None:
    for site in ("same-origin", "cross-site", "none"):
        with pytest.raises(ForeignPage):
            pages.admit("", lines(REMOTE, "https://streams.example", site=site, dest=dest))
    said = lines(REMOTE, dest="empty")
    said.add("Sec-Fetch-Dest", dest)
    with pytest.raises(ForeignPage):
        pages.admit("", said)


@pytest.mark.parametrize("dest", ["", "empty", "document", "image", "iframe", "audio", "json"])
def test_what_does_not_run_is_as_welcome_as_its_page(dest: str) -> None:
    assert OPEN_ON_NETWORK.admit("", lines(REMOTE, site="same-origin", dest=dest)) == FOR_NO_PAGE


# -- by which name -------------------------------------------------------------------------

KNOWN: Final = [
    (OPEN_ON_LOOPBACK, "", "localhost"),
    (OPEN_ON_LOOPBACK, "", "LOCALHOST.:4437"),
    (OPEN_ON_LOOPBACK, "", "app.localhost:1"),
    (OPEN_ON_LOOPBACK, "", "127.0.0.1:4437"),
    (OPEN_ON_LOOPBACK, "", "127.8.8.8"),
    (OPEN_ON_LOOPBACK, "", "[::1]:4437"),
    (OPEN_ON_LOOPBACK, "localhost", "evil.test"),  # RFC 9112 §3.2.2
    (HOSTS, "", "streams.example"),
    (HOSTS, "", "Streams.Example.:1234"),
    (HOSTS, "", "other.example:8080"),
    (HOSTS, "streams.example", "evil.test"),
    (OPEN_ON_NETWORK, "", "whatever.test"),
    (OPEN_ON_NETWORK, "", None),
]

UNKNOWN: Final = [
    (OPEN_ON_LOOPBACK, "", None),
    (OPEN_ON_LOOPBACK, "", ""),
    (OPEN_ON_LOOPBACK, "", "evil.test"),
    (OPEN_ON_LOOPBACK, "", "localhost.evil.test"),
    (OPEN_ON_LOOPBACK, "", "127.0.0.1.evil.test"),
    (OPEN_ON_LOOPBACK, "", "0.0.0.0"),
    (OPEN_ON_LOOPBACK, "", "[::]"),
    (OPEN_ON_LOOPBACK, "", "2130706433"),
    (OPEN_ON_LOOPBACK, "", "0x7f.1"),
    (OPEN_ON_LOOPBACK, "", "0177.0.0.1"),
    (OPEN_ON_LOOPBACK, "", "localhost@evil.test"),
    (OPEN_ON_LOOPBACK, "", "evil.test@localhost"),
    (OPEN_ON_LOOPBACK, "", "localhost, evil.test"),
    (OPEN_ON_LOOPBACK, "", "localhost evil.test"),
    (OPEN_ON_LOOPBACK, "", "lоcalhost"),  # noqa: RUF001 - a Cyrillic o
    (OPEN_ON_LOOPBACK, "evil.test", "localhost"),
    (OPEN_ON_LOOPBACK, "user@localhost", "localhost"),
    (HOSTS, "", "localhost"),
    (HOSTS, "", "sub.streams.example"),
    (HOSTS, "", "streams.example.evil.test"),
    (HOSTS, "", "other.example"),
    (HOSTS, "", "other.example:8081"),
    (HOSTS, "", None),
    (HOSTS, "evil.test", "streams.example"),
]


@pytest.mark.parametrize(("pages", "authority", "host"), KNOWN)
def test_a_name_by_which_the_server_is_known(
    pages: Pages, authority: str, host: str | None
) -> None:
    assert pages.admit(authority, lines(host)) in {FOR_NO_PAGE, FOR_ALL}


@pytest.mark.parametrize(("pages", "authority", "host"), UNKNOWN)
def test_a_name_that_leads_elsewhere(pages: Pages, authority: str, host: str | None) -> None:
    with pytest.raises(ForeignHost):
        pages.admit(authority, lines(host))


def test_a_page_whose_name_was_made_to_lead_here_is_not_of_the_servers_origin() -> None:
    said = lines("evil.test:4437", "http://evil.test:4437", site="same-origin")
    with pytest.raises(ForeignHost):
        OPEN_ON_LOOPBACK.admit("", said)


def test_several_hosts_are_none() -> None:
    for pages in (OPEN_ON_LOOPBACK, HOSTS):
        said = lines("localhost")
        said.add("Host", "localhost")
        with pytest.raises(ForeignHost):
            pages.admit("", said)
    said = lines(REMOTE, "https://streams.example")
    said.add("Host", REMOTE)
    with pytest.raises(ForeignPage):
        OPEN_ON_NETWORK.admit("", said)


def test_named_hosts_count_instead_of_those_of_this_machine() -> None:
    pages = Pages(hosts=["streams.example"], any_by_default=False, loopback_hosts=True)
    assert pages.admit("", lines("streams.example")) == FOR_NO_PAGE
    with pytest.raises(ForeignHost):
        pages.admit("", lines("localhost"))


def test_a_health_check_comes_by_any_name_but_from_no_foreign_page() -> None:
    for pages in (OPEN_ON_LOOPBACK, HOSTS):
        assert pages.admit_probe(lines("10.1.2.3:4437")) in {FOR_NO_PAGE, FOR_ALL}
    for origin in ("http://evil.test", "http://10.1.2.3:4437", "null"):
        with pytest.raises(ForeignPage):
            OPEN_ON_LOOPBACK.admit_probe(lines("10.1.2.3:4437", origin))


def test_what_is_no_whole_request_is_told_to_pages_only_if_all_are_welcome() -> None:
    assert WITH_TOKENS.default == ALL.default == FOR_ALL
    for pages in (NAMED, OPEN_ON_LOOPBACK, IN_APPLICATION_NAMED):
        assert pages.default == FOR_NO_PAGE


@pytest.mark.parametrize("text", ["app.example", "https://app.example/", "null", "", "https://*.a"])
def test_a_setting_that_can_be_no_origin_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no origin"):
        Pages([text], any_by_default=True)


@pytest.mark.parametrize("text", ["*", "https://streams.example", "", "a b"])
def test_a_setting_that_can_be_no_host_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no host"):
        Pages(hosts=[text], any_by_default=True)

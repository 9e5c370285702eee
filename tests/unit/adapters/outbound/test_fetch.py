from __future__ import annotations

import pytest
import trio

from chatmail.adapters.outbound.connect import Connector, TlsClient
from chatmail.adapters.outbound.fetch import HttpsFetcher
from chatmail.domain.ports.remote import Fetched, FetchFault
from tests.unit.adapters.outbound.rig import (
    PATIENCE,
    Authority,
    FakeResolver,
    PeerStream,
    Script,
    connector,
    peer,
)

POLICY = "version: STSv1\r\nmode: enforce\r\n"
OK = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(POLICY)}\r\n\r\n{POLICY}"


def saying(answer: str, heard: list[str] | None = None) -> Script:
    async def serve(stream: PeerStream) -> None:
        head = await stream.until(b"\r\n\r\n")
        if heard is not None:
            heard.append(head.decode())
        await stream.send(answer)

    return serve


async def fetch(
    authority: Authority,
    answer: str | Script,
    *,
    names: tuple[str, ...] = ("mta-sts.peer.example",),
    host: str = "mta-sts.peer.example",
    path: str = "/.well-known/mta-sts.txt",
    scheme: str = "https",
    max_octets: int = 1000,
    timeout_s: float = 2.0,
    trusts: bool = True,
) -> Fetched | FetchFault:
    fetcher = HttpsFetcher(
        connector(), TlsClient(authority.file if trusts else None), "chatmail/1", PATIENCE
    )
    script = saying(answer) if isinstance(answer, str) else answer
    async with peer(script, tls=authority.server(*names)) as served:
        url = f"{scheme}://{host}:{served.port}{path}"
        return await fetcher.get(url, max_octets=max_octets, timeout_s=timeout_s)


async def test_a_document(authority: Authority) -> None:
    """A12.1."""
    heard: list[str] = []
    found = await fetch(authority, saying(OK, heard), path="/a/b?c=d")
    assert found == Fetched("text/plain", POLICY.encode())
    assert heard[0].startswith("GET /a/b?c=d HTTP/1.1\r\nHost: mta-sts.peer.example:")
    assert "\r\nConnection: close\r\n" in heard[0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param("HTTP/1.0 200 OK\r\n\r\nx", Fetched("", b"x"), id="until-the-end"),
        pytest.param(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            Fetched("", b"x"),
            id="chunks",
        ),
        pytest.param(
            "HTTP/1.1 301 Moved\r\nLocation: https://x/\r\nContent-Length: 0\r\n\r\n",
            FetchFault.ABSENT,
            id="redirect",
        ),
        pytest.param("HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n", FetchFault.ABSENT, id="404"),
        pytest.param("HTTP/1.1 204 no\r\n\r\n", FetchFault.ABSENT, id="204"),
        pytest.param("HTTP/1.1 500 no\r\n\r\n", FetchFault.ABSENT, id="500"),
        pytest.param(
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", FetchFault.UNREACHABLE, id="torn"
        ),
        pytest.param("", FetchFault.UNREACHABLE, id="nothing"),
        pytest.param("nonsense\r\n\r\n", FetchFault.UNREACHABLE, id="nonsense"),
        pytest.param("HTTP/1.1 200 OK\r\n\r\n" + "x" * 1001, FetchFault.TOO_LARGE, id="too-large"),
    ],
)
async def test_answers(authority: Authority, answer: str, expected: object) -> None:
    assert await fetch(authority, answer) == expected


async def test_an_endless_document_is_given_up(authority: Authority) -> None:
    async def serve(stream: PeerStream) -> None:
        await stream.send("HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send("x" * 10_000)

    assert await fetch(authority, serve) is FetchFault.TOO_LARGE


async def test_a_slow_server_is_given_up(authority: Authority) -> None:
    async def serve(stream: PeerStream) -> None:
        await trio.sleep_forever()

    assert await fetch(authority, serve, timeout_s=0.3) is FetchFault.UNREACHABLE


async def test_a_name_has_to_prove_itself(authority: Authority) -> None:
    assert await fetch(authority, OK, names=("other.example",)) is FetchFault.UNREACHABLE
    assert await fetch(authority, OK, trusts=False) is FetchFault.UNREACHABLE


@pytest.mark.parametrize("host", ["127.0.0.1", "_peer.example"])
async def test_what_cannot_have_a_certificate_need_not(authority: Authority, host: str) -> None:
    """A5.1."""
    found = await fetch(authority, OK, names=("other.example",), host=host, trusts=False)
    assert isinstance(found, Fetched)


@pytest.mark.parametrize(
    "url",
    [
        "http://peer.example/",
        "ftp://peer.example/",
        "https:///x",
        "https://user@peer.example/",
        "https://peer.example:99999/",
        "https://peer.example:x/",
        "https://[::1/",
        "https://a b/",
        "https://peer.example/a b",
        "https://peer.example/\r\nX: y",
        "https://peer.example/\u00e4",
        "",
    ],
)
async def test_only_plain_https_urls_are_fetched(url: str) -> None:
    resolver = FakeResolver()
    fetcher = HttpsFetcher(connector(resolver=resolver), TlsClient(), "chatmail/1", PATIENCE)
    found = await fetcher.get(url, max_octets=10, timeout_s=60)
    if "\r" in url:
        return  # urlsplit drops line ends: nothing is injected
    assert found is FetchFault.UNREACHABLE
    assert resolver.asked == []


async def test_forbidden_addresses_are_not_fetched_from() -> None:
    out = Connector(FakeResolver(), lambda *_: False, bind="", patience=PATIENCE)
    fetcher = HttpsFetcher(out, TlsClient(), "chatmail/1", PATIENCE)
    found = await fetcher.get("https://peer.example/", max_octets=10, timeout_s=60)
    assert found is FetchFault.UNREACHABLE


async def test_what_the_operator_names_may_be_private(authority: Authority) -> None:
    asked: list[bool] = []

    def may_connect(address: str, port: int, is_operators_word: bool) -> bool:
        asked.append(is_operators_word)
        return is_operators_word

    fetcher = HttpsFetcher(
        Connector(FakeResolver(), may_connect, bind="", patience=PATIENCE),
        TlsClient(authority.file),
        "chatmail/1",
        PATIENCE,
    )
    async with peer(saying(OK), tls=authority.server("hub.example")) as served:
        url = f"https://hub.example:{served.port}/me/full"
        refused = await fetcher.get(url, max_octets=1000, timeout_s=60)
        assert refused is FetchFault.UNREACHABLE
        found = await fetcher.get(url, max_octets=1000, timeout_s=60, is_operators_word=True)
        assert isinstance(found, Fetched)
    assert asked == [False, True]

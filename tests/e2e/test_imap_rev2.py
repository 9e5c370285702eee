"""IMAP4rev2 and UTF8=ACCEPT against the program, with clients of other hands."""

from __future__ import annotations

import base64
import imaplib
from collections.abc import Iterator

import pytest
from imapclient import IMAPClient

from tests.e2e import wire
from tests.e2e.raw import RawImap, client, fill, newcomer, running
from tests.e2e.relay import Relay

NAME = "Grüße/日本 & more"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("rev2"))) as relay:
        yield relay


def enabled(relay: Relay, account: tuple[str, str], *names: str) -> imaplib.IMAP4_SSL:
    """An imaplib client with extensions switched on."""
    reader = wire.imap(relay, *account)
    for name in names:
        assert reader.enable(name)[0] == "OK"
        assert reader.response("ENABLED")[1] == [name.encode()]
    return reader


def test_imaplib_speaks_utf8_names(relay: Relay) -> None:
    account = newcomer(relay)
    reader = enabled(relay, account, "UTF8=ACCEPT")
    assert reader.create(f'"{NAME}"')[0] == "OK"
    assert reader.select(f'"{NAME}"')[0] == "OK"
    assert f'"/" "{NAME}"'.encode() in b"".join(reader.list()[1])
    assert reader.status(f'"{NAME}"', "(MESSAGES)")[1] == [f'"{NAME}" (MESSAGES 0)'.encode()]
    reader.logout()
    with IMAPClient("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls()) as other:
        other.login(*account)
        assert NAME in {name for _, _, name in other.list_folders()}  # by modified UTF-7
        assert other.folder_status(NAME, ["MESSAGES"]) == {b"MESSAGES": 0}
    with client(relay, account) as plain:
        assert b'"Gr&APwA3w-e/&ZeVnLA- &- more"' in b"".join(plain.ok('LIST "" "*"').lines)


def test_rev2_select_search_and_list(relay: Relay) -> None:
    account = newcomer(relay)
    fill(relay, account, 3)
    reader = enabled(relay, account, "IMAP4rev2")
    assert reader.select("INBOX")[1] == [b"3"]
    assert reader.response("LIST")[1] == [b'(\\HasNoChildren \\Subscribed) "/" "INBOX"']
    assert reader.response("RECENT")[1] == [None]
    assert reader.response("UNSEEN")[1] == [None]
    reader.uid("SEARCH", "1:*")
    [found] = reader.response("ESEARCH")[1]
    assert found.endswith(b"UID ALL 1:3")
    reader.create("a/b")
    assert reader.list('""', "a")[1] == [b'(\\Noselect \\NonExistent \\HasChildren) "/" "a"']
    assert reader.status("INBOX", "(DELETED SIZE MESSAGES)")[0] == "OK"
    reader.logout()


def test_binary_is_what_a_mime_library_decodes(relay: Relay) -> None:
    """The armor of a message is 7bit; a part in base64 comes as its octets."""
    account = newcomer(relay)
    fill(relay, account, 1)
    reader = enabled(relay, account, "IMAP4rev2")
    reader.select("INBOX")
    for part in ("1", "2"):
        _, [(head, decoded), _] = reader.fetch("1", f"(BINARY.PEEK[{part}])")
        _, [(_, encoded), _] = reader.fetch("1", f"(BODY.PEEK[{part}])")
        _, rows = reader.fetch("1", f"(BODY.PEEK[{part}.MIME])")
        is_base64 = b"base64" in rows[0][1].lower()
        assert decoded == (base64.b64decode(encoded) if is_base64 else encoded)
        _, [size] = reader.fetch("1", f"(BINARY.SIZE[{part}])")
        assert size == b"1 (BINARY.SIZE[%b] %d)" % (part.encode(), len(decoded))
        assert head.startswith(b"1 (BINARY[%b] {" % part.encode())
    assert reader.fetch("1", "(FLAGS)")[1] == [b"1 (FLAGS ())"]
    reader.logout()


def test_core_sees_what_it_always_saw(relay: Relay) -> None:
    """Spec mail 4.2: the judge of raw sessions takes no ESEARCH, no 8 bits, no BINARY."""
    account = newcomer(relay)
    fill(relay, account, 2)
    enabled(relay, account, "IMAP4rev2").logout()
    with client(relay, account) as raw:
        assert isinstance(raw, RawImap)
        told = raw.select().lines
        assert b"* 0 RECENT" in told
        assert raw.select().lines == told  # no CLOSED
        assert raw.ok("SEARCH ALL").lines == [b"* SEARCH 1 2"]
        assert raw.refused("FETCH 1 BINARY[1]").startswith(b"BAD ")

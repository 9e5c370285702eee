"""The strict client takes what the specification allows a server to write, and nothing else."""

from __future__ import annotations

import pytest

from tests.fuzz.imap_client import Reader

BODY = (
    b'(("text" "plain" ("charset" "x") NIL NIL "7bit" 5 1 NIL NIL NIL NIL)'
    b'("message" "rfc822" NIL NIL NIL "7bit" 9 (NIL "s" NIL NIL NIL ((NIL NIL "a" "b")) NIL NIL NIL'
    b' NIL) ("x" "y" NIL NIL NIL "7bit" 0 NIL NIL NIL NIL) 2 NIL ("inline" NIL) ("de" "en") NIL)'
    b' "mixed" NIL NIL NIL NIL)'
)


@pytest.mark.parametrize(
    "octets",
    [
        b"* OK [CAPABILITY IMAP4rev1] ready\r\n",
        b"* 3 EXISTS\r\n* SEARCH\r\n* SEARCH 1 2 (MODSEQ 5)\r\n* ENABLED\r\na OK done\r\n",
        b'* LIST (\\HasNoChildren) "/" "x&AOQ-"\r\n* LIST () "/" {3}\r\na"b\r\n',
        b'* METADATA "INBOX" (/private/x {3}\r\na"\xff /private/y NIL)\r\n',
        b"* 1 FETCH (UID 1 FLAGS (\\Seen kw) BODY[HEADER.FIELDS (From)] {2}\r\n\r\n)\r\n",
        b"* 1 FETCH (BODYSTRUCTURE %b MODSEQ (5))\r\n" % BODY,
        b"* VANISHED (EARLIER) 1:3,7\r\n+ idling\r\n* BYE over\r\n",
    ],
)
def test_what_may_be_written_is_read(octets: bytes) -> None:
    assert Reader(octets).responses()


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(b"* OK caf\xc3\xa9\r\n", id="8-bit text"),
        pytest.param(b"* OK a\nb\r\n", id="bare LF"),
        pytest.param(b"* OK [UIDNEXT 5]\r\n", id="code without text"),
        pytest.param(b"* OK\0 x\r\n", id="NUL"),
        pytest.param(b"* 1 FETCH (BODY[] {1}\r\n\0)\r\n", id="NUL in literal"),
        pytest.param(b'* LIST () "/" "a\\"b"\r\n', id="escape in quotes"),
        pytest.param(b'* METADATA "" (/x "value")\r\n', id="quoted value"),
        pytest.param(b'* METADATA "" (/X {1}\r\nv)\r\n', id="entry in capitals"),
        pytest.param(b"* 1 FETCH (BODY.PEEK[] {1}\r\nx)\r\n", id="BODY.PEEK"),
        pytest.param(b"* 1 FETCH (EMAILID (x))\r\n", id="unknown item"),
        pytest.param(b"* 1 FETCH (UID 4294967296)\r\n", id="number too large"),
        pytest.param(b"* THREAD (1)\r\n", id="unknown response"),
        pytest.param(b'* ESEARCH (TAG "a") COUNT 1\r\n', id="not asked for"),
        pytest.param(b"* 1 FETCH (BODY %b)\r\n" % BODY, id="extension in BODY"),
        pytest.param(b"* 1 FETCH (BODY[] {9}\r\nx)\r\n", id="torn literal"),
        pytest.param(b"a OK done", id="torn line"),
    ],
)
def test_what_may_not_be_written_is_not_read(octets: bytes) -> None:
    with pytest.raises(AssertionError):
        Reader(octets).responses()

"""The exact session of Delta Chat (spec mail 3.2)."""

from __future__ import annotations

import pytest

from chatmail.domain.wire.imap.commands import (
    Close,
    Compress,
    Fetch,
    GetMetadata,
    GetQuotaRoot,
    Id,
    Idle,
    Login,
    Select,
    SetMetadata,
    Store,
)
from chatmail.domain.wire.imap.events import NEED_DATA, CommandReceived, IdleDone

from .reading import BEFORE, feed, machine, read

TRANSCRIPT = [
    (b'A0001 LOGIN "user@D" "p\\"a\\\\ss"', Login(b"user@D", b'p"a\\ss')),
    (b'A0002 ID ("name" "Delta Chat")', Id()),
    (b"A0003 COMPRESS DEFLATE", Compress("DEFLATE")),
    (b'A0001 GETQUOTAROOT "INBOX"', GetQuotaRoot("INBOX")),
    (
        b'A0002 GETMETADATA "" (/shared/comment /shared/admin /shared/vendor/deltachat/irohrelay'
        b" /shared/vendor/deltachat/turn /shared/vendor/deltachat/maxsmtprecipients"
        b" /shared/vendor/deltachat/appversions)",
        GetMetadata,
    ),
    (
        b'A0003 SETMETADATA "INBOX" (/private/devicetoken "openpgp:abc+/=")',
        SetMetadata("INBOX", (("/private/devicetoken", b"openpgp:abc+/="),)),
    ),
    (b'A0004 SELECT "INBOX"', Select("INBOX", read_only=False)),
    (
        b"A0005 UID FETCH 7:506 (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID DATE"
        b" X-MICROSOFT-ORIGINAL-MESSAGE-ID FROM CONTENT-TYPE SECURE-JOIN CHAT-VERSION"
        b" CHAT-IS-POST-MESSAGE AUTOCRYPT-SETUP-MESSAGE)])",
        Fetch,
    ),
    (b"A0006 UID FETCH 7,9:12 (FLAGS BODY.PEEK[])", Fetch),
    (b"A0007 UID STORE 7,9:12 +FLAGS (\\Deleted)", Store),
    (b"A0008 CLOSE", Close(expunge=True)),
    (b'A0009 SELECT "INBOX"', Select("INBOX", read_only=False)),
    (b"A0010 IDLE", Idle()),
]


def test_the_session_of_delta_chat():
    made = machine(BEFORE)
    for line, expected in TRANSCRIPT:
        made.receive_data(line + b"\r\n")
        event = made.next_event()
        assert isinstance(event, CommandReceived), event
        assert event.tag == line.split()[0]
        assert event.command == expected or type(event.command) is expected
        assert made.next_event() is NEED_DATA
        match event.command:
            case Login():
                made.authenticated()
            case Compress():
                made.compressed()
            case Select():
                made.selected()
            case Close():
                made.deselected()
            case Idle():
                made.begin_idle(event.tag)
    assert feed(made, [b"DONE\r\n"]) == [IdleDone(b"A0010")]


@pytest.mark.parametrize(
    ("octets", "value"),
    [
        pytest.param(
            b'a01 SETMETADATA INBOX (/private/devicetoken "1111" )\n', b"1111", id="relay-test"
        ),
        pytest.param(
            b'a01 SETMETADATA "INBOX" (/private/devicetoken {4+}\r\n11\r\n)\r\n',
            b"11\r\n",
            id="old-core-without-literal-plus-check",
        ),
    ],
)
def test_device_tokens_in_the_forms_of_trap_t36(octets, value):
    (event,) = read(octets)
    assert event.command == SetMetadata("INBOX", (("/private/devicetoken", value),))

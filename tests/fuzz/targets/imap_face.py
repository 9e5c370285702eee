"""The IMAP face over memory stores: what a client may send and what mail may hold.

Before octet 0x1e is a message in INBOX, behind it what the client says. Everything the server
writes is read by a client as strict as Delta Chat's (spec mail 4.2).
"""

from __future__ import annotations

import re

import trio
import trio.testing

from tests.builders import make_message
from tests.fuzz.cutting import Input, read, vector
from tests.fuzz.imap_client import Reader
from tests.fuzz.targets.imap_command import VECTORS as COMMANDS
from tests.fuzz.targets.imap_command import WORDS as COMMAND_WORDS
from tests.unit.adapters.imap.world import MESSAGE, World
from tests.unit.domain.formats.test_mime_structure import NESTED

WORDS = (b"\x1e", b"\r\na ", b"a IDLE\r\nDONE\r\n", b"a LOGOUT\r\n", *COMMAND_WORDS)
MAX_OUTPUT = 4_000_000


def check(data: bytes) -> None:
    """Whatever is stored and asked, every response is one that the strictest client reads."""
    given = read(data)
    # NUL never gets into the store (spec mail 4.2.5); compressed streams have tests of their own.
    payload = re.sub(rb"(?i)compress", b"compiess", given.payload.replace(b"\0", b"0"))
    stored, _, said = payload.partition(b"\x1e")
    written = trio.run(_talk, given, _as_message(stored), said, clock=trio.testing.MockClock())
    assert len(written) <= MAX_OUTPUT
    responses = Reader(written).responses(asked_for=said)
    assert responses
    for response in responses[:-1]:
        assert response.kind != b"BYE" or responses[-1].kind in (b"OK", b"BYE")


def _as_message(octets: bytes) -> bytes:
    return octets if b"\r\n\r\n" in octets else octets + b"\r\n\r\n"


async def _talk(given: Input, message: bytes, said: bytes) -> bytes:
    world = World()
    world.deliver(message, "\\Seen")
    world.deliver(MESSAGE, "kw")
    async with world.connect() as client:
        await client.login()
        await client.select()
        for piece in given.pieces(said):
            try:
                await client.send(piece)
            except trio.BrokenResourceError:
                break
            await trio.testing.wait_all_tasks_blocked()
        await trio.testing.wait_all_tasks_blocked()
        written = b"".join(client.server.writes)
    assert not any("crash" in event for event in world.log.events)
    return written


_ASK_ALL = (
    b"a FETCH 1:* (FLAGS UID INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[]"
    b" BODY[1] BODY[1.MIME] BODY[2.HEADER] BODY[HEADER.FIELDS (From)] BODY[TEXT]<0.5>)\r\n"
)
_LARGE = b"\xff"
VECTORS = (
    vector(b'Subject: say "hi" \\ \xc3\xa4\r\n\r\n\x1e' + _ASK_ALL),
    *(vector(stored + b"\x1e" + _ASK_ALL) for stored in (MESSAGE, NESTED, make_message(size=60))),
    vector(
        b"\x1ea " + b"\r\na ".join(line[1:] for line in COMMANDS if line[:1] == b"0") + b"\r\n",
        cuts=_LARGE,
    ),
    vector(
        b'\x1ea CREATE "x&AOQ-"\r\na CREATE x/y (USE (\\Sent))\r\na LIST "" *\r\na LSUB "" %\r\n'
    ),
    vector(
        b'\x1ea SETMETADATA INBOX (/private/devicetoken {3+}\r\na"b)\r\n'
        b'a GETMETADATA INBOX /private/devicetoken\r\na GETMETADATA "" /shared/vendor\r\n'
    ),
    vector(
        b"\x1ea ENABLE QRESYNC\r\na UID STORE 1 +FLAGS (x \\Deleted)\r\na EXPUNGE\r\n"
        b"a UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)\r\n",
        cuts=_LARGE,
    ),
    vector(b"\x1ea UID SEARCH RETURN (ALL SAVE) SUBJECT x\r\na FETCH $ FLAGS\r\na NAMESPACE\r\n"),
    vector(
        b"\x1ea APPEND INBOX {9+}\r\nA: b\r\n\r\nx\r\na IDLE\r\nDONE\r\na GETQUOTAROOT INBOX\r\n"
    ),
)

"""The IMAP grammar: a command that was read can be written, and is read the same again."""

from __future__ import annotations

from chatmail.domain.wire.imap.commands import AppendBegin, Command, Fetch, Search, Store
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    CommandReceived,
    ContinuationWanted,
    Rejected,
)
from chatmail.domain.wire.imap.server import ServerMachine, State
from tests.fuzz.imap_encoder import encode, quoted
from tests.fuzz.targets.imap_session import check_reply

WORDS = (
    *(b"UID ", b"FETCH ", b"STORE ", b"SEARCH ", b"COPY ", b"MOVE ", b"EXPUNGE", b"1:* ", b"$"),
    *(b"BODY.PEEK[", b"HEADER.FIELDS (", b"HEADER.FIELDS.NOT (", b".MIME]", b"TEXT]", b"<0.5>"),
    *(b"FLAGS", b"ENVELOPE", b"BODYSTRUCTURE", b"RFC822.SIZE", b"INTERNALDATE", b"MODSEQ", b"ALL"),
    *(
        b" (CHANGEDSINCE 5 VANISHED)",
        b"(UNCHANGEDSINCE 5) ",
        b"+FLAGS.SILENT ",
        b"\\Seen",
        b"(",
        b")",
    ),
    *(b"RETURN (MIN MAX COUNT ALL SAVE) ", b"CHARSET UTF-8 ", b"OR ", b"NOT ", b"HEADER ", b"NEW "),
    *(b"SENTBEFORE 1-Feb-1994 ", b"KEYWORD ", b"LARGER 5 ", b"YOUNGER 5 ", b"MODSEQ 5 ", b"BODY "),
    *(
        b"SELECT ",
        b"EXAMINE ",
        b"(QRESYNC (1 2 1:3 (1 2)))",
        b"(CONDSTORE)",
        b"CREATE ",
        b"DELETE ",
    ),
    *(b"RENAME ", b"SUBSCRIBE ", b"LIST ", b"LSUB ", b'"" ', b"RETURN (STATUS (MESSAGES)) ", b"%"),
    *(b"(SUBSCRIBED RECURSIVEMATCH) ", b"STATUS ", b"(MESSAGES UIDNEXT) ", b"GETQUOTAROOT "),
    *(
        b"GETQUOTA ",
        b"SETQUOTA ",
        b"GETMETADATA ",
        b"(DEPTH infinity) ",
        b"(MAXSIZE 5) ",
        b"/shared/",
    ),
    *(b"SETMETADATA ", b"NIL", b"(USE (\\Sent))", b"ENABLE ", b"COMPRESS DEFLATE", b"ID ("),
    *(b"LOGIN ", b"AUTHENTICATE PLAIN ", b"{3+}\r\nabc", b"{0+}\r\n", b'"\\""', b"&AOQ-", b"INBOX"),
)


def check(data: bytes) -> None:
    """The first octet chooses the state; the rest is a command without tag and line end."""
    state = (State.SELECTED, State.NOT_AUTHENTICATED)[data[:1] == b"1"]
    command = _read(data[1:], state)
    if command is None or isinstance(command, AppendBegin):
        return
    if isinstance(command, Search) and not command.is_charset_known:
        return  # what follows an unknown charset is not read
    if isinstance(command, Store):  # an encoder alone would not miss what the grammar dropped
        asked = data.upper().partition(b"FLAGS")[2].startswith(b".SILENT")
        assert command.silent is asked
    written = encode(command)
    for octets in (written, quoted(written)):
        assert _comparable(_read(octets, state)) == _comparable(command)


def _comparable(command: Command | None) -> object:
    if isinstance(command, Fetch):
        return command, frozenset(command.sections), command.attributes
    return command


def _read(octets: bytes, state: State) -> Command | None:
    """Return the one command of a line with its literals, None: it was refused."""
    machine = ServerMachine(tls_active=True, max_append_bytes=1000)
    if state is State.SELECTED:
        machine.authenticated()
        machine.selected()
    machine.receive_data(b"t " + octets + b"\r\n")
    while not isinstance(event := machine.next_event(), CommandReceived):
        if isinstance(event, Rejected):
            check_reply(event.octets)
            return None
        if event is NEED_DATA:
            return None
        assert isinstance(event, ContinuationWanted)
    assert event.tag == b"t"
    return event.command


VECTORS = (
    *(
        b"0" + line
        for line in (
            b"UID FETCH 1:*,5 (FLAGS UID BODY.PEEK[HEADER.FIELDS (From To)] BODY[1.2.MIME]<0.5>)",
            b"FETCH 2:4 ALL",
            b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 5 VANISHED)",
            b"FETCH 1 (RFC822.HEADER BODY[] BODY[TEXT]<1.2> BODYSTRUCTURE ENVELOPE MODSEQ)",
            b'FETCH 1 BODY[HEADER.FIELDS.NOT ("a b" {3+}\r\nabc)]',
            b"UID STORE $ (UNCHANGEDSINCE 5) +FLAGS.SILENT (\\Seen kw \\deleted KW)",
            b"STORE 1 -FLAGS \\Seen kw",
            b"UID SEARCH RETURN (MIN COUNT) CHARSET UTF-8 OR (NEW 1:5) NOT SENTSINCE 1-Feb-1994",
            b'SEARCH HEADER "x y" {2+}\r\nhi TEXT "\xc3\xa4" UNKEYWORD k MODSEQ "/flags/x" all 5',
            b"SEARCH RETURN () UID 1:* LARGER 5 YOUNGER 5 OLD UNSEEN BODY a BCC b",
            b'SELECT "Sent/\\"x" (CONDSTORE QRESYNC (1 2 1:3 (1:2 3:4)))',
            b"EXAMINE inbox",
            b"CREATE x/ (USE (\\sent))",
            b"RENAME a {1+}\r\nb",
            b"SUBSCRIBE &AOQ-",
            b'LIST (SUBSCRIBED RECURSIVEMATCH) "" ("%" *) RETURN (CHILDREN STATUS (MESSAGES SIZE))',
            b'LSUB "" *',
            b"STATUS inbox (MESSAGES UIDNEXT HIGHESTMODSEQ)",
            b"GETQUOTAROOT INBOX",
            b'SETQUOTA "" (STORAGE 5)',
            b'GETMETADATA "" (DEPTH infinity MAXSIZE 5) (/shared/comment /Private/x )',
            b"GETMETADATA (MAXSIZE 5) INBOX /private/devicetoken",
            b'SETMETADATA INBOX ( /private/devicetoken {5+}\r\na"b\\c /x NIL )',
            b"ENABLE QRESYNC condstore",
            b'ID ("name" "x" "version" NIL)',
            b"UID EXPUNGE 1:5",
            b"COPY 1 &2D3eAA-",
            b"APPEND x (\\Seen) {3+}\r\nabc",
            b"CHECK",
            b"COMPRESS DEFLATE",
        )
    ),
    b'1LOGIN "u\\"" {3+}\r\np w',
    b"1AUTHENTICATE PLAIN AHUAcA==",
    b"1authenticate login",
)

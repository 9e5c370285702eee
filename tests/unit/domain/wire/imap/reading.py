"""Drive the machine in tests: octets in, events out."""

from __future__ import annotations

from collections.abc import Iterable

from chatmail.domain.wire.imap.commands import AppendBegin, Authenticate, Command, Idle, Noop
from chatmail.domain.wire.imap.events import (
    NEED_DATA,
    AppendChunk,
    AppendNext,
    CommandReceived,
    ContinuationWanted,
    Event,
    Rejected,
)
from chatmail.domain.wire.imap.server import ServerMachine, State

BEFORE = State.NOT_AUTHENTICATED
AFTER = State.AUTHENTICATED
PLUS = ContinuationWanted(b"+ OK\r\n")
NOOP = CommandReceived(b"z", Noop())
MAX_APPEND = 1000


def machine(state: State = State.SELECTED, *, tls_active: bool = True) -> ServerMachine:
    """Make a machine in a state."""
    made = ServerMachine(tls_active=tls_active, max_append_bytes=MAX_APPEND)
    if state is not State.NOT_AUTHENTICATED:
        made.authenticated()
    if state is State.SELECTED:
        made.selected()
    return made


def drain(made: ServerMachine, *, accept_appends: bool = True) -> list[Event]:
    """Take all events; APPEND, IDLE and AUTHENTICATE go on as a willing shell would do it."""
    events: list[Event] = []
    while (event := made.next_event()) is not NEED_DATA:
        events.append(event)
        if isinstance(event, CommandReceived):
            follow(made, event, accept_appends)
        if isinstance(event, AppendNext):
            decide(made, accept_appends)
    return events


def follow(made: ServerMachine, event: CommandReceived, accept_appends: bool) -> None:
    match event.command:
        case AppendBegin():
            decide(made, accept_appends)
        case Idle():
            made.begin_idle(event.tag)
        case Authenticate(initial=None):
            made.begin_response()
        case _:
            pass


def decide(made: ServerMachine, accept_appends: bool) -> None:
    if accept_appends:
        made.accept_append()
    else:
        made.refuse_append()


def feed(made: ServerMachine, pieces: Iterable[bytes], **options: bool) -> list[Event]:
    """Feed pieces one by one; streamed literals come back as one chunk."""
    events: list[Event] = []
    for piece in pieces:
        made.receive_data(piece)
        events += drain(made, **options)
    return joined(events)


def joined(events: Iterable[Event]) -> list[Event]:
    merged: list[Event] = []
    for event in events:
        if isinstance(event, AppendChunk) and merged and isinstance(merged[-1], AppendChunk):
            merged[-1] = AppendChunk(merged[-1].octets + event.octets)
        else:
            merged.append(event)
    return merged


def read(octets: bytes, state: State = State.SELECTED, **options: bool) -> list[Event]:
    """Return all events of some input in a fresh machine."""
    return feed(machine(state), [octets], **options)


def parsed(line: bytes, state: State = State.SELECTED) -> Command:
    """Return the command of one line (without its end)."""
    made = machine(state)
    made.receive_data(line + b"\r\n")
    event = made.next_event()
    while not isinstance(event, CommandReceived):
        assert not isinstance(event, Rejected), event.octets
        assert event is not NEED_DATA, "incomplete"
        event = made.next_event()
    return event.command


def refusal(line: bytes, state: State = State.SELECTED) -> bytes:
    """Return the reply without tag and CRLF to one line that is refused."""
    (event,) = read(b"t1 " + line + b"\r\n", state)
    assert isinstance(event, Rejected), event
    assert event.octets.startswith(b"t1 ")
    assert event.octets.endswith(b"\r\n")
    assert event.octets.isascii()
    return event.octets[3:-2]


def reply(event) -> bytes:
    assert isinstance(event, Rejected)
    return event.octets

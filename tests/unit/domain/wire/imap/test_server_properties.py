"""Whatever comes in, cut anywhere: events, never an exception, never different ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.wire.imap.commands import Login
from chatmail.domain.wire.imap.events import CommandReceived, Rejected
from chatmail.domain.wire.imap.server import State

from .reading import feed, machine

WORDS = st.sampled_from(
    [
        b"a ",
        b"b ",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b" ",
        b"(",
        b")",
        b'"',
        b"\\",
        b"*",
        b"+",
        b"1:*",
        b"{3}\r\n",
        b"{3+}\r\n",
        b"{0+}\r\n",
        b"{70000+}\r\n",
        b"{99999999999+}\r\n",
        b"{-1}\r\n",
        b"NOOP\r\n",
        b"a LOGIN ",
        b"UID FETCH ",
        b"BODY[",
        b"FLAGS",
        b"a APPEND x ",
        b"a APPEND x {3+}\r\nabc {3}\r\nabc {0+}\r\n",
        b"a APPEND x UTF8 (~",
        b"{3+}\r\nabc)\r\n",
        b"a IDLE\r\n",
        b"a NOTIFY SET (",
        b"DONE\r\n",
        b"a AUTHENTICATE PLAIN\r\n",
        b"a SEARCH ",
        b"NOT ",
        b"a LOGOUT\r\n",
        b"abc",
        b"a SETMETADATA INBOX (/a ",
        b"x" * 9000,
        b"x" * 40000,
        b"\xff",
        b"{3} ",
        b"}",
    ]
)
INPUT = st.one_of(st.binary(max_size=200), st.lists(WORDS, max_size=30).map(b"".join))
STATES = st.sampled_from([State.NOT_AUTHENTICATED, State.AUTHENTICATED, State.SELECTED])


def cut(octets: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(octets) + 1) for place in places} | {len(octets)})
    return [octets[i:j] for i, j in zip([0, *ends], ends, strict=False)]


def enabled(state: State, names: list[str]):  # type: ignore[no-untyped-def]
    made = machine(state)
    for name in names:
        made.enable(name)
    return made


@given(
    INPUT,
    st.lists(st.integers(0, 10**6), max_size=10),
    STATES,
    st.booleans(),
    st.lists(st.sampled_from(("UTF8=ACCEPT", "IMAP4REV2"))),
)
def test_cutting_the_input_changes_no_event(octets, places, state, accepting, names):
    whole = feed(enabled(state, names), [octets], accept_appends=accepting)
    pieces = feed(enabled(state, names), cut(octets, places), accept_appends=accepting)
    assert pieces == whole


@given(st.lists(WORDS, max_size=12).map(b"".join).filter(lambda o: len(o) < 2000), STATES)
def test_single_octets_change_no_event(octets, state):
    whole = feed(machine(state), [octets])
    assert feed(machine(state), [octets[i : i + 1] for i in range(len(octets))]) == whole


@given(INPUT, STATES)
def test_every_refusal_is_whole_ascii_lines(octets, state):
    for event in feed(machine(state), [octets]):
        if isinstance(event, Rejected):
            assert event.octets.endswith(b"\r\n")
            assert event.octets.isascii()
            assert b"\0" not in event.octets
            for line in event.octets.removesuffix(b"\r\n").split(b"\r\n"):
                assert b"\r" not in line
                assert b"\n" not in line


@given(st.binary(max_size=60).filter(lambda o: b"\0" not in o))
def test_any_password_comes_through_as_a_literal(password):
    octets = b"a LOGIN u {%d+}\r\n%b\r\n" % (len(password), password)
    assert feed(machine(State.NOT_AUTHENTICATED), [octets]) == [
        CommandReceived(b"a", Login(b"u", password))
    ]


@given(st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"])))
def test_any_password_comes_through_in_quotes(password):
    quoted = password.replace("\\", "\\\\").replace('"', '\\"').encode()
    assert feed(machine(State.NOT_AUTHENTICATED), [b'a LOGIN u "' + quoted + b'"\r\n']) == [
        CommandReceived(b"a", Login(b"u", password.encode()))
    ]

"""Commands before and around login: CAPABILITY, ID, STARTTLS, LOGIN, AUTHENTICATE, COMPRESS.

Source:  spec mail 1.4, 1.5, 2, 4.3, 4.4.
"""

from __future__ import annotations

from typing import Final

from chatmail.adapters.imap.replies import BYE_FAILURES, REFUSALS, TOO_MANY_SESSIONS, Reply
from chatmail.adapters.imap.session import Session
from chatmail.adapters.imap.waits import Farewell
from chatmail.domain.model.account import Account, Credentials
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.wire.imap.commands import (
    Authenticate,
    Capability,
    Compress,
    Enable,
    Id,
    Login,
    Namespace,
    StartTls,
)
from chatmail.domain.wire.imap.events import Rejected as RejectedEvent
from chatmail.domain.wire.imap.events import ResponseLine
from chatmail.domain.wire.imap.responses import bad, capability, ok, server_id
from chatmail.domain.wire.sasl import (
    PlainExchange,
    SaslEncodingError,
    decode_initial,
    decode_response,
)

PRODUCT: Final = "chatmail"
CONDSTORES: Final = frozenset(("CONDSTORE", "QRESYNC"))
MAX_FAILURES: Final = 10
_BASE: Final = (
    *("IMAP4rev1", "LITERAL+", "SASL-IR", "ID", "ENABLE", "IDLE", "NAMESPACE", "UNSELECT"),
    *("CHILDREN", "UIDPLUS", "MOVE", "CONDSTORE", "ESEARCH", "LIST-EXTENDED", "LIST-STATUS"),
    *("MULTIAPPEND", "OBJECTID", "SEARCHRES", "SPECIAL-USE", "STATUS=SIZE", "WITHIN"),
)
_TO_ENABLE: Final = ("IMAP4rev2", "QRESYNC", "UTF8=ACCEPT")
ENABLABLE: Final = {name.upper(): name for name in ("CONDSTORE", *_TO_ENABLE)}
# Trap T14: core compares these atoms with case. Visible before login: spec mail 4.3.
_CHATMAIL: Final = ("QUOTA", "QUOTA=RES-STORAGE", "METADATA", "XCHATMAIL", "XDELTAPUSH")
_INACTIVE_COMPRESSION: Final = Reply("COMPRESSIONACTIVE", "DEFLATE is active already")
_NO_MECHANISM: Final = Reply("CANNOT", "Unsupported mechanism")


def capabilities(session: Session) -> tuple[str, ...]:
    """Return what is offered in the present state of the connection (spec mail 4.3)."""
    settings = session.services.settings()
    limit = settings.limits.max_message_bytes
    names = [*_BASE, *_TO_ENABLE, "NOTIFY", f"APPENDLIMIT={limit}", *_CHATMAIL]
    if settings.imap.compress and not session.machine.is_compressed:
        names.append("COMPRESS=DEFLATE")
    if not session.machine.tls_active:
        names += ("STARTTLS", "LOGINDISABLED")
    elif session.account_or_none is None:
        names.append("AUTH=PLAIN")
    return tuple(names)


def capability_code(session: Session) -> str:
    """Return the capabilities as a response code."""
    return "CAPABILITY " + " ".join(capabilities(session))


async def tell_capability(session: Session, tag: bytes, command: Capability) -> bytes:
    """CAPABILITY."""
    session.send(capability(capabilities(session)))
    return ok(tag, "Capability completed")


async def tell_id(session: Session, tag: bytes, command: Id) -> bytes:
    """ID: one write with its tagged OK (trap T19); what the client says is not kept."""
    return server_id(PRODUCT) + ok(tag, "ID completed")


async def tell_namespace(session: Session, tag: bytes, command: Namespace) -> bytes:
    """NAMESPACE."""
    return b'* NAMESPACE (("" "/")) NIL NIL\r\n' + ok(tag, "Namespace completed")


async def enable(session: Session, tag: bytes, command: Enable) -> bytes:
    """ENABLE (RFC 5161): names we do not know are left out."""
    enabled = [name for name in command.names if name in ENABLABLE]
    for name in enabled:
        session.machine.enable(name)
    session.has_qresync = session.has_qresync or "QRESYNC" in enabled
    # RFC 7162 §3.2.3: who can QRESYNC has CONDSTORE.
    session.has_condstore = session.has_condstore or not CONDSTORES.isdisjoint(enabled)
    told = "".join(f" {ENABLABLE[name]}" for name in enabled)
    return b"* ENABLED%b\r\n" % told.encode("ascii") + ok(tag, "Enabled")


async def start_tls(session: Session, tag: bytes, command: StartTls) -> bytes:
    """STARTTLS: cleartext behind it ends the connection without a word (spec mail 1.5)."""
    if session.machine.has_buffered_input:
        session.take_output()
        raise Farewell
    session.send(ok(tag, "Begin TLS negotiation now"))
    await session.flush()
    await session.stream.start_tls()
    session.machine.starttls_done()
    return b""


async def compress(session: Session, tag: bytes, command: Compress) -> bytes:
    """COMPRESS (RFC 4978): the OK is the last cleartext octet."""
    if session.machine.is_compressed:
        return _INACTIVE_COMPRESSION.to(tag)
    if command.mechanism != "DEFLATE" or not session.services.settings().imap.compress:
        return _NO_MECHANISM.to(tag)
    if session.machine.has_buffered_input:
        # RFC 4978 §3: the client waits for our answer; nobody can say what these octets are.
        return bad(tag, "Nothing may follow COMPRESS before its answer")
    session.send(ok(tag, "DEFLATE active"))
    await session.flush()
    session.stream.start_deflate()
    session.machine.compressed()
    session.is_mute = True
    return b""


async def login(session: Session, tag: bytes, command: Login) -> bytes:
    """LOGIN."""
    name = command.user.decode("utf-8", "replace")
    return await _log_in(session, tag, Credentials(name, command.password))


async def authenticate(session: Session, tag: bytes, command: Authenticate) -> bytes:
    """AUTHENTICATE PLAIN, with or without an initial response (RFC 4616, RFC 4959)."""
    if command.mechanism != "PLAIN":
        return _NO_MECHANISM.to(tag)
    initial = command.initial
    try:
        if initial is not None:
            message = decode_initial(initial)
        else:
            line = await _ask(session, tag)
            if line is None:
                return b""
            if line == b"*":
                return bad(tag, "Authentication cancelled")
            message = decode_response(line)
    except SaslEncodingError:
        return bad(tag, "Invalid base64")
    step = PlainExchange().respond(message)
    if not isinstance(step, Credentials):
        # Counted and delayed like every other failure.
        step = Credentials("", b"")
    return await _log_in(session, tag, step)


async def _ask(session: Session, tag: bytes) -> bytes | None:
    """Send an empty challenge and return the answer; None: it was refused and answered."""
    session.send(b"+ \r\n")
    session.machine.begin_response()
    event = await session.next_event()
    if isinstance(event, ResponseLine):
        return event.octets
    if isinstance(event, RejectedEvent):
        session.send(event.octets)
        if event.close:
            raise Farewell
    return None


async def _log_in(session: Session, tag: bytes, credentials: Credentials) -> bytes:
    services = session.services
    outcome = await services.authenticate(credentials, session.stream.peer_host)
    if isinstance(outcome, Account):
        return _welcome(session, tag, outcome)
    # Trap T22 aside, core tries every candidate server at once: the delay is per connection.
    await session.pause(outcome.delay_s)
    session.send(REFUSALS[outcome.reason].to(tag))
    if outcome.reason is RefusalReason.BAD_CREDENTIALS:
        session.failures += 1
        if session.failures >= MAX_FAILURES:
            raise Farewell(BYE_FAILURES)
    return b""


def _welcome(session: Session, tag: bytes, account: Account) -> bytes:
    services = session.services
    limit = services.settings().limits.imap_sessions_per_account
    ticket = services.sessions.admit(account.id, "imap", limit, session.evict)
    if ticket is None:
        return TOO_MANY_SESSIONS.to(tag)
    session.ticket = ticket
    session.account_or_none = account
    session.machine.authenticated()
    # One line and nothing before it: core reads the capabilities from this code alone (4.4).
    return ok(tag, "Logged in", capability_code(session))

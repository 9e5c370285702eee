"""The encryption gate: which messages may enter, at any door, and with which header edits.

One function judges all doors, in one order: octets, header, identity, encryption, the exceptions,
DKIM. It sees facts and never octets, so what it judged is what is stored.
"""

from __future__ import annotations

import enum
import re
from functools import lru_cache
from typing import Final

import attrs

from chatmail.domain.formats.facts import HeaderFacts, MessageFacts
from chatmail.domain.model.address import EmailAddress, is_literal
from chatmail.domain.model.message import DeleteField, Door, Envelope, HeaderEdit, ReplaceValue
from chatmail.domain.model.settings import GateSettings
from chatmail.domain.model.verdict import Accept, AcceptedKind, RefusalReason, Refuse, Verdict

MAX_RECEIVED: Final = 50
MAX_REQUEST_OCTETS: Final = 32 * 1024
MAX_REQUEST_HEADER_OCTETS: Final = 24 * 1024
MAX_REQUEST_RECIPIENTS: Final = 5
MAX_REPORT_OCTETS: Final = 100 * 1024
MAX_ECHO_OCTETS: Final = 80

_NOT_ECHOED: Final = re.compile(r"[^\x21-\x7e]")
_POSTMASTERS: Final = frozenset(("mailer-daemon", "postmaster"))


class DkimResult(enum.Enum):
    """What the signatures of an inbound message are worth (F-07)."""

    PASS = "pass"  # noqa: S105  # valid, d= equals the domain of From
    NONE = "none"  # no signature of that domain
    BAD = "bad"  # none of them valid
    UNAVAILABLE = "unavailable"  # the key could not be looked up
    NOT_NEEDED = "not_needed"  # not asked for, or the sender is exempt


class CleartextRecipients(enum.Enum):
    """How many of the recipients accept cleartext (X-CLR)."""

    ALL = "all"
    SOME = "some"
    NONE = "none"


@attrs.frozen(kw_only=True)
class GateContext:
    """What is known about a message besides its octets.

    Attributes:
        identity: who is logged in; None at inbound doors.
        local_domains: our own domains, names and literals, normalised.
        dkim: None if it was not looked at; see `needs_dkim`.
    """

    envelope: Envelope
    settings: GateSettings
    local_domains: frozenset[str]
    identity: EmailAddress | None = None
    dkim: DkimResult | None = None
    cleartext_recipients: CleartextRecipients = CleartextRecipients.NONE


def judge(facts: MessageFacts, door: Door, context: GateContext) -> Verdict:
    """Decide whether a message may enter at this door.

    Returns:  Accept with the kind and the header edits to make before the message is signed or
        stored; or Refuse with the first rule that failed. A message that breaks a structural rule
        is refused with that rule after every exception was tried.
    Source:  spec policy 1.1, 1.13.
    """
    verdict = _judge_content(facts, door, context)
    if isinstance(verdict, Accept) and door.is_inbound and not _is_authentic(facts, context):
        return Refuse(_DKIM_REASONS[context.dkim], "F-07")
    return verdict


def needs_dkim(facts: MessageFacts, door: Door, context: GateContext) -> bool:
    """Say whether only a DKIM result is missing for this message to be accepted.

    So no key is looked up for a message that is refused anyway.
    """
    is_wanted = door.is_inbound and context.dkim is None and not _is_authentic(facts, context)
    return is_wanted and isinstance(_judge_content(facts, door, context), Accept)


def effective_reverse_path(facts: MessageFacts, envelope: Envelope) -> EmailAddress | None:
    """Return the envelope sender of an inbound message as it may be used: F-08.

    An envelope sender that is not the (verified) author is nobody to send reports to.
    """
    author = facts.header_facts.from_address
    return envelope.reverse_path if envelope.reverse_path == author else None


_DKIM_REASONS: Final = {
    None: RefusalReason.DKIM_UNAVAILABLE,
    DkimResult.NONE: RefusalReason.NO_DKIM,
    DkimResult.BAD: RefusalReason.BAD_DKIM,
    DkimResult.UNAVAILABLE: RefusalReason.DKIM_UNAVAILABLE,
}


def _is_authentic(facts: MessageFacts, context: GateContext) -> bool:
    """F-07; nobody can publish a key for an address literal."""
    author = facts.header_facts.from_address
    if author is not None and is_literal(author.domain):
        return True
    return context.dkim in (DkimResult.PASS, DkimResult.NOT_NEEDED)


def _judge_content(facts: MessageFacts, door: Door, context: GateContext) -> Verdict:
    """Judge everything but F-07."""
    if door is Door.REPORT:
        return Accept(AcceptedKind.EXEMPT)  # X-DSN6
    refusal = _octets(facts) or _header(facts, door) or _identity(facts, door, context)
    if refusal is not None:
        return refusal
    kind = _kind(facts, door, context)
    if isinstance(kind, Refuse):
        return kind
    return Accept(kind, _edits(facts.header_facts, kind, door, context.settings))


# --- octets and header (D-01) ------------------------------------------------------------------


def _octets(facts: MessageFacts) -> Refuse | None:
    if facts.too_big:
        return Refuse(RefusalReason.TOO_BIG, "P-01")
    if facts.bad_line:
        return Refuse(RefusalReason.BAD_LINE, "P-02")
    if facts.has_nul:
        return Refuse(RefusalReason.BAD_LINE, "P-03")
    return None


def _header(facts: MessageFacts, door: Door) -> Refuse | None:
    if door.is_inbound and facts.header_facts.received_count > MAX_RECEIVED:
        return Refuse(RefusalReason.TOO_MANY_HOPS, "B-06")
    fault = facts.header_fault.at(door)
    if fault is None:
        return None
    is_plaintext = fault == "P-06"  # not even a header: nothing a mail program ever sent
    reason = RefusalReason.ENCRYPTION_NEEDED if is_plaintext else RefusalReason.BAD_HEADER
    return Refuse(reason, fault)


# --- identity (D-02, D-04 to D-06) -------------------------------------------------------------


def _identity(facts: MessageFacts, door: Door, context: GateContext) -> Refuse | None:
    if door is Door.SUBMISSION:
        return _owner(context) or _author(facts.header_facts, context)
    author = facts.header_facts.from_address
    if door is Door.APPEND:
        return _invalid_from("F-02", facts.header_facts, context) if author is None else None
    envelope_sender = context.envelope.reverse_path
    # The envelope was known first, so its answer comes first.
    if envelope_sender is not None and envelope_sender.domain in context.local_domains:
        return Refuse(RefusalReason.SPOOFED_DOMAIN, "F-06")
    if author is None:
        return _invalid_from("F-05", facts.header_facts, context)
    if author.domain in context.local_domains:
        return Refuse(RefusalReason.SPOOFED_DOMAIN, "F-06")
    return None


def _owner(context: GateContext) -> Refuse | None:
    """F-01: only the login itself; the null sender is for relays."""
    sender = context.envelope.reverse_path
    if sender is not None and sender == context.identity:
        return None
    subject, login = _echo(sender), _echo(context.identity)
    return Refuse(RefusalReason.NOT_OWNER, "F-01", subject, login)


def _author(header: HeaderFacts, context: GateContext) -> Refuse | None:
    author = header.from_address
    if author is None:
        return _invalid_from("F-02", header, context)
    if author != context.envelope.reverse_path:
        return _invalid_from("F-03", header, context)
    if header.has_sender and header.sender != author:
        return _invalid_from("F-04", header, context)
    return None


def _invalid_from(rule: str, header: HeaderFacts, context: GateContext) -> Refuse:
    author = header.from_address or header.from_value.decode("ascii", "replace")
    return Refuse(
        RefusalReason.INVALID_FROM, rule, _echo(author), _echo(context.envelope.reverse_path)
    )


def _echo(text: EmailAddress | str | None) -> str:
    """Make a text safe for a reply line: no spaces, no controls, 80 octets.

    Source:  spec policy 1.7.
    """
    return "" if text is None else _NOT_ECHOED.sub("?", str(text)[:MAX_ECHO_OCTETS])


# --- encryption and the exceptions (D-07 to D-17) ----------------------------------------------


def _kind(facts: MessageFacts, door: Door, context: GateContext) -> AcceptedKind | Refuse:
    rule = facts.structure.at(door)
    if rule is None and facts.is_transparent and context.settings.opacity_check:
        rule = "O-20"
    if rule is None:
        return AcceptedKind.ENCRYPTED
    if door is Door.APPEND:
        kind = AcceptedKind.CLEARTEXT_OPT_IN if context.settings.append_any else None
    elif door is Door.SUBMISSION:
        kind = _submitted_exception(facts, context)
    else:
        kind = _inbound_exception(facts, door, context)
    return kind or Refuse(RefusalReason.ENCRYPTION_NEEDED, rule)


def _submitted_exception(facts: MessageFacts, context: GateContext) -> AcceptedKind | None:
    if _is_secure_join(facts, Door.SUBMISSION, context):
        return AcceptedKind.SECUREJOIN
    if facts.header_facts.media_type == b"multipart/report":
        return None  # D-11: users never bounce
    if _is_passthrough(context) or _is_setup_message(facts, context):
        return AcceptedKind.PASSTHROUGH
    return None


def _inbound_exception(
    facts: MessageFacts, door: Door, context: GateContext
) -> AcceptedKind | None:
    if _is_secure_join(facts, door, context):
        return AcceptedKind.SECUREJOIN
    if _is_report(facts, context):
        return AcceptedKind.BOUNCE
    # D-13, D-16: a transaction has one reply, so one recipient that wants encryption decides.
    if context.cleartext_recipients is CleartextRecipients.ALL:
        return AcceptedKind.CLEARTEXT_OPT_IN
    return None


def _is_secure_join(facts: MessageFacts, door: Door, context: GateContext) -> bool:
    """X-SJ1 to X-SJ5."""
    header = facts.header_facts
    if not context.settings.allow_secure_join or facts.secure_join.at(door) is not None:
        return False
    header_octets = len(facts.header or b"")
    if facts.size > MAX_REQUEST_OCTETS or header_octets > MAX_REQUEST_HEADER_OCTETS:
        return False
    if not 1 <= len(context.envelope.recipients) <= MAX_REQUEST_RECIPIENTS:
        return False
    if door is not Door.SUBMISSION:
        return True
    return not any(_stays_in_request(name) for name in header.long_fields - {b"autocrypt"})


def _is_report(facts: MessageFacts, context: GateContext) -> bool:
    """X-DSN1 to X-DSN4, F-07 apart."""
    envelope, author = context.envelope, facts.header_facts.from_address
    sender = envelope.reverse_path
    if sender is not None and sender.local not in _POSTMASTERS:
        return False
    if len(envelope.recipients) != 1 or author is None or author.local not in _POSTMASTERS:
        return False
    if envelope.recipients[0].domain not in context.local_domains:
        return False
    return facts.report is None and facts.size <= MAX_REPORT_OCTETS


def _is_passthrough(context: GateContext) -> bool:
    """X-PASS1 and X-PASS2; what a listed sender writes leaves this relay only to listed peers."""
    entries = context.settings.passthrough_recipients
    strangers = [to for to in context.envelope.recipients if not _is_listed(to, entries)]
    if not strangers:
        return bool(context.envelope.recipients)
    is_listed_sender = str(context.identity) in context.settings.passthrough_senders
    return is_listed_sender and all(to.domain in context.local_domains for to in strangers)


def _is_listed(recipient: EmailAddress, entries: frozenset[str]) -> bool:
    return str(recipient) in entries or f"@{recipient.domain}" in entries


def _is_setup_message(facts: MessageFacts, context: GateContext) -> bool:
    """D-14: to oneself, and only if the operator wants it."""
    to_self = context.envelope.recipients == (context.identity,)
    return context.settings.allow_autocrypt_setup and to_self and facts.autocrypt_setup


# --- edits (1.3, H-04, X-SJ5) ------------------------------------------------------------------

_REMOVED_ON_SUBMISSION: Final = frozenset(
    (
        b"bcc", b"dkim-signature", b"authentication-results", b"return-path", b"delivered-to",
        b"received", b"x-originating-ip", b"x-mailer", b"user-agent",
    )
)  # fmt: skip
_REMOVED_INBOUND: Final = frozenset((b"received", b"dkim-signature", b"authentication-results"))

_CORE_NAMES: Final = frozenset(
    (
        b"from", b"date", b"message-id", b"mime-version", b"to", b"subject", b"content-type",
        b"autocrypt", b"secure-join", b"secure-join-invitenumber", b"in-reply-to", b"references",
        b"auto-submitted",
    )
)  # fmt: skip
# Without this field a body in base64 is unreadable, so it stays even when little else does.
_STRICT_NAMES: Final = _CORE_NAMES | {b"content-transfer-encoding"}
_REQUEST_NAMES: Final = _CORE_NAMES | {
    b"content-transfer-encoding",
    b"secure-join-group",
    b"ephemeral-timer",
    b"user-agent",
}


def _stays_in_request(name: bytes) -> bool:
    """Say whether a Secure-Join request keeps this field (X-SJ5)."""
    return name in _REQUEST_NAMES or name.startswith(b"chat-")


def _edits(
    header: HeaderFacts, kind: AcceptedKind, door: Door, settings: GateSettings
) -> tuple[HeaderEdit, ...]:
    if door is Door.APPEND:
        return ()
    if door.is_inbound:
        return tuple(DeleteField(name) for name in sorted(header.names & _REMOVED_INBOUND))
    is_request = kind is AcceptedKind.SECUREJOIN
    edits = _removals(header.names, is_request, settings.strict_outer_headers)
    # Core protects the real subject inside the encrypted part; others write it here.
    if header.subject is not None and header.subject != b"[...]":
        edits += (ReplaceValue(b"subject", b"[...]"),)
    return edits


# A client writes the same few sets of fields again and again; one is at most 64 KiB.
@lru_cache(maxsize=64)
def _removals(names: frozenset[bytes], is_request: bool, is_strict: bool) -> tuple[HeaderEdit, ...]:
    return tuple(
        DeleteField(name) for name in sorted(names) if _is_removed(name, is_request, is_strict)
    )


def _is_removed(name: bytes, is_request: bool, is_strict: bool) -> bool:
    if name in _REMOVED_ON_SUBMISSION or name.startswith((b"resent-", b"arc-")):
        return True
    if is_request and not _stays_in_request(name):
        return True
    stays = name in _STRICT_NAMES or name.startswith((b"chat-", b"list-"))
    return is_strict and not stays

"""Outcomes of judgements: Accept, or Refuse with a reason from one closed enum.

Each face owns one total table reason → reply; no reply code lives here.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

from chatmail.domain.model.message import HeaderEdit


class RefusalReason(enum.Enum):
    """Why something was refused; ids in comments are those of spec policy 1.11."""

    ENCRYPTION_NEEDED = "encryption_needed"  # G-ENC
    INVALID_FROM = "invalid_from"  # G-FROM
    NOT_OWNER = "not_owner"  # G-OWN
    SPOOFED_DOMAIN = "spoofed_domain"  # G-SPOOF
    NO_DKIM = "no_dkim"  # G-DKIM, first text
    BAD_DKIM = "bad_dkim"  # G-DKIM, second text
    DKIM_UNAVAILABLE = "dkim_unavailable"  # G-DKIM, third text
    TOO_BIG = "too_big"  # G-SIZE
    BAD_LINE = "bad_line"  # G-LINE
    BAD_HEADER = "bad_header"  # G-HDR
    TOO_MANY_HOPS = "too_many_hops"  # G-LOOP
    TOO_MUCH_MAIL = "too_much_mail"  # G-RATE
    POLICY = "policy"  # G-POL
    OVER_QUOTA = "over_quota"  # G-QUOTA
    UNKNOWN_RECIPIENT = "unknown_recipient"  # G-NORCPT
    REMOTE = "remote"  # what another relay said, in `subject`: one clean line, `550 5.1.1 text`
    RELAY_DENIED = "relay_denied"  # G-RELAY
    TEMPORARY = "temporary"  # G-TEMP
    QUEUE_FULL = "queue_full"  # 452 4.3.1
    MAIL_WAITS = "mail_waits"  # 452 4.3.1, policy 3: of this author
    BAD_CREDENTIALS = "bad_credentials"  # mail 2.6, first row
    LOGIN_UNAVAILABLE = "login_unavailable"  # mail 2.6, second row
    TOO_MANY_SESSIONS = "too_many_sessions"  # mail 2.6, third row
    TLS_REQUIRED = "tls_required"  # mail 2.6, fourth row


class AcceptedKind(enum.Enum):
    """What a message was accepted as (spec policy 1.1)."""

    ENCRYPTED = "encrypted"
    SECUREJOIN = "securejoin"
    BOUNCE = "bounce"
    PASSTHROUGH = "passthrough"
    CLEARTEXT_OPT_IN = "cleartext_opt_in"
    EXEMPT = "exempt"  # our own reports, imports


@attrs.frozen
class Accept:
    """The message may enter, after these edits of its header block."""

    kind: AcceptedKind
    edits: tuple[HeaderEdit, ...] = ()


@attrs.frozen
class Refuse:
    """The answer is no.

    `rule` is the id of the first rule that failed (`O-20`): for counters, never for a peer.
    `subject` is the address the reply text names, already safe to echo (printable ASCII, short).
    """

    reason: RefusalReason
    rule: str = ""
    subject: str = ""
    object: str = ""


Verdict: TypeAlias = Accept | Refuse

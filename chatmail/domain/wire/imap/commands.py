"""One frozen value per IMAP command: what the grammar yields and the face executes.

Mailbox names are decoded text (`INBOX` in capitals whatever was sent). Flags keep their spelling,
system flags are canonical (`\\Seen`). Sets are `SequenceSet`s that are not yet resolved.
Source:  RFC 3501 §6, §9; extensions as named beside each value.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import attrs

from chatmail.domain.wire.imap.search_keys import SearchKey
from chatmail.domain.wire.imap.sequence import SequenceSet

# --- any state -------------------------------------------------------------------------------


@attrs.frozen
class Capability:
    """RFC 3501 §6.1.1."""


@attrs.frozen
class Noop:
    """RFC 3501 §6.1.2; also CHECK (§6.4.1)."""

    name: str = "Noop"


@attrs.frozen
class Logout:
    """RFC 3501 §6.1.3."""


@attrs.frozen
class Id:
    """RFC 2971. What the client says of itself is parsed and dropped."""


# --- not authenticated -----------------------------------------------------------------------


@attrs.frozen
class StartTls:
    """RFC 3501 §6.2.1."""


@attrs.frozen
class Login:
    """RFC 3501 §6.2.3."""

    user: bytes
    password: bytes = attrs.field(repr=False)


@attrs.frozen
class Authenticate:
    """RFC 3501 §6.2.2, RFC 4959. `initial` is the still encoded initial response."""

    mechanism: str
    initial: bytes | None = attrs.field(default=None, repr=False)


# --- authenticated ---------------------------------------------------------------------------


@attrs.frozen
class Enable:
    """RFC 5161; names in capitals."""

    names: tuple[str, ...]


@attrs.frozen
class Namespace:
    """RFC 2342."""


@attrs.frozen
class QresyncParameter:
    """RFC 7162 §3.2.5: what the client knows of the mailbox."""

    uid_validity: int
    modseq: int
    known_uids: SequenceSet | None = None
    known_sequence: tuple[SequenceSet, SequenceSet] | None = None


@attrs.frozen
class Select:
    """SELECT or EXAMINE (RFC 3501 §6.3.1, §6.3.2)."""

    mailbox: str
    read_only: bool
    condstore: bool = False
    qresync: QresyncParameter | None = None


@attrs.frozen
class Create:
    """RFC 3501 §6.3.3; `special_use` by RFC 6154 §3."""

    mailbox: str
    special_use: str | None = None


@attrs.frozen
class Delete:
    """RFC 3501 §6.3.4."""

    mailbox: str


@attrs.frozen
class Rename:
    """RFC 3501 §6.3.5."""

    old: str
    new: str


@attrs.frozen
class Subscribe:
    """SUBSCRIBE or UNSUBSCRIBE (RFC 3501 §6.3.6, §6.3.7)."""

    mailbox: str
    subscribed: bool


@attrs.frozen
class List:
    """LIST or LSUB (RFC 3501 §6.3.8, RFC 5258, RFC 5819, RFC 6154)."""

    reference: str
    patterns: tuple[str, ...]
    is_lsub: bool = False
    select_subscribed: bool = False
    select_special_use: bool = False
    recursive_match: bool = False
    return_subscribed: bool = False
    return_special_use: bool = False
    return_children: bool = False
    return_status: tuple[str, ...] = ()
    is_extended: bool = False


@attrs.frozen
class Status:
    """RFC 3501 §6.3.10; items in capitals."""

    mailbox: str
    items: tuple[str, ...]


@attrs.frozen
class GetQuotaRoot:
    """RFC 9208 §4.2."""

    mailbox: str


@attrs.frozen
class GetQuota:
    """RFC 9208 §4.1."""

    root: str


@attrs.frozen
class SetQuota:
    """RFC 9208 §4.3: parsed, always refused."""


@attrs.frozen
class GetMetadata:
    """RFC 5464 §4.2; entry names in lower case."""

    mailbox: str
    entries: tuple[str, ...]
    max_size: int | None = None
    depth: int | None = 0  # None: infinity


@attrs.frozen
class SetMetadata:
    """RFC 5464 §4.3; a value None is NIL."""

    mailbox: str
    entries: tuple[tuple[str, bytes | None], ...]


@attrs.frozen
class Compress:
    """RFC 4978; the mechanism in capitals."""

    mechanism: str


@attrs.frozen
class Idle:
    """RFC 2177."""


@attrs.frozen
class NotifyGroup:
    """Events wanted of some mailboxes (RFC 5465 §6). Specifier and events in capitals.

    `names` of SUBTREE and MAILBOXES; `attributes` and `sections` are what is fetched of new
    messages in the selected mailbox.
    """

    mailboxes: str
    names: tuple[str, ...] = ()
    events: frozenset[str] = frozenset()
    attributes: tuple[str, ...] = ()
    sections: tuple[BodySection, ...] = ()


@attrs.frozen
class Notify:
    """NOTIFY SET, or NONE without groups (RFC 5465 §3.1)."""

    groups: tuple[NotifyGroup, ...]
    has_status: bool = False


@attrs.frozen
class AppendBegin:
    """APPEND up to the size of its literal (RFC 3501 §6.3.11): the face says whether to go on."""

    mailbox: str
    flags: tuple[str, ...]
    internal_date_s: int | None
    size: int
    is_synchronising: bool


# --- selected --------------------------------------------------------------------------------


@attrs.frozen
class Close:
    """CLOSE (`expunge`) or UNSELECT (RFC 3501 §6.4.2, RFC 3691)."""

    expunge: bool


@attrs.frozen
class Expunge:
    """EXPUNGE, or UID EXPUNGE with `uids` (RFC 3501 §6.4.3, RFC 4315)."""

    uids: SequenceSet | None = None


class Section(enum.Enum):
    """Which part of a message or of one of its MIME parts (RFC 3501 §6.4.5)."""

    ALL = ""
    HEADER = "HEADER"
    HEADER_FIELDS = "HEADER.FIELDS"
    HEADER_FIELDS_NOT = "HEADER.FIELDS.NOT"
    TEXT = "TEXT"
    MIME = "MIME"


@attrs.frozen
class BodySection:
    """BODY[section]<partial>, BODY.PEEK[…], or an RFC822 form when `alias` is set.

    `fields` are the names as sent (echoed so). `label` is what the reply calls the item, without
    the partial: `BODY[HEADER.FIELDS (FROM TO)]`, `BODY[1.2.MIME]`, `RFC822.TEXT`.
    `is_binary`: BINARY, whose transfer encoding is undone; `is_size`: of that only the size.
    """

    label: bytes
    section: Section
    part: tuple[int, ...] = ()
    fields: tuple[bytes, ...] = ()
    peek: bool = False
    partial: tuple[int, int] | None = None
    is_binary: bool = False
    is_size: bool = False


@attrs.frozen
class Fetch:
    """FETCH (RFC 3501 §6.4.5, RFC 7162 §3.1.4); macros are expanded.

    `attributes`: of FLAGS, UID, INTERNALDATE, RFC822.SIZE, ENVELOPE, BODY, BODYSTRUCTURE, MODSEQ,
    EMAILID, THREADID, in the order asked and without duplicates; `sections` likewise.
    """

    messages: SequenceSet
    by_uid: bool
    attributes: tuple[str, ...]
    sections: tuple[BodySection, ...]
    changed_since: int | None = None
    vanished: bool = False


@attrs.frozen
class Store:
    """STORE (RFC 3501 §6.4.6, RFC 7162 §3.1.3). `mode` is `=`, `+` or `-`."""

    messages: SequenceSet
    by_uid: bool
    mode: str
    flags: tuple[str, ...]
    silent: bool
    unchanged_since: int | None = None


@attrs.frozen
class Copy:
    """COPY or MOVE (RFC 3501 §6.4.7, RFC 6851)."""

    messages: SequenceSet
    by_uid: bool
    mailbox: str
    move: bool


# --- SEARCH ----------------------------------------------------------------------------------


@attrs.frozen
class Search:
    """SEARCH (RFC 3501 §6.4.4, RFC 4731). `options` None: no RETURN was given.

    `options` are of MIN, MAX, COUNT, ALL, SAVE; `RETURN ()` yields ("ALL",). When the charset is
    not known, the keys were not read and `key` means nothing.
    """

    key: SearchKey
    by_uid: bool
    options: tuple[str, ...] | None = None
    is_charset_known: bool = True


Command: TypeAlias = (
    Capability
    | Noop
    | Logout
    | Id
    | StartTls
    | Login
    | Authenticate
    | Enable
    | Namespace
    | Select
    | Create
    | Delete
    | Rename
    | Subscribe
    | List
    | Status
    | GetQuotaRoot
    | GetQuota
    | SetQuota
    | GetMetadata
    | SetMetadata
    | Compress
    | Idle
    | Notify
    | AppendBegin
    | Close
    | Expunge
    | Fetch
    | Store
    | Copy
    | Search
)

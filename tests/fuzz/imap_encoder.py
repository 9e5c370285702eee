"""Writes IMAP commands: the reverse of the server's grammar, sharing no code with it.

Strings are non-synchronising literals, so that any octets can be written.
"""

from __future__ import annotations

import base64
import datetime
import re

from chatmail.domain.wire.imap import commands as c
from chatmail.domain.wire.imap import search_keys as k
from chatmail.domain.wire.imap.sequence import SequenceSet

_BARE = {
    c.Capability: b"CAPABILITY",
    c.Logout: b"LOGOUT",
    c.Id: b"ID NIL",
    c.StartTls: b"STARTTLS",
    c.Namespace: b"NAMESPACE",
    c.Idle: b"IDLE",
    c.SetQuota: b'SETQUOTA "" ()',
}
_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_LITERAL = re.compile(rb"\{([0-9]+)\+\}\r\n")
_NEW = k.SearchAnd((k.SearchFlag("\\Recent", True), k.SearchFlag("\\Seen", False)))


def encode(command: c.Command) -> bytes:
    """Return a command without tag and last line end."""
    bare = _BARE.get(type(command))
    if bare is not None:
        return bare
    match command:
        case c.Noop(name):
            return name.upper().encode()
        case c.Login(user, password):
            return b"LOGIN %b %b" % (_string(user), _string(password))
        case c.Authenticate(mechanism, initial):
            tail = b"" if initial is None else b" " + initial
            return b"AUTHENTICATE " + mechanism.encode() + tail
        case c.Enable(names):
            return b"ENABLE " + " ".join(names).encode()
        case c.Compress(mechanism):
            return b"COMPRESS " + mechanism.encode()
        case c.Close(expunge):
            return b"CLOSE" if expunge else b"UNSELECT"
        case c.Search():
            return _search(command)
        case c.Fetch() | c.Store() | c.Copy() | c.Expunge():
            return _numbered(command)
        case _:
            return _about_mailbox(command)


def quoted(command: bytes) -> bytes:
    """Return an encoded command with quoted strings instead of literals, where they can be."""
    out, at = b"", 0
    while (found := _LITERAL.search(command, at)) is not None:
        end = found.end() + int(found[1])
        octets = command[found.end() : end]
        out += command[at : found.start()]
        if any(octet in octets for octet in (b"\r", b"\n", b"\0")):
            out += _string(octets)
        else:
            out += b'"%b"' % octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        at = end
    return out + command[at:]


def _string(octets: bytes) -> bytes:
    return b"{%d+}\r\n%b" % (len(octets), octets)


def _name(name: str) -> bytes:
    """Write a mailbox name in modified UTF-7 (RFC 3501 §5.1.3)."""

    def shifted(run: re.Match[str]) -> str:
        digits = base64.b64encode(run[0].encode("utf-16-be")).decode().rstrip("=")
        return "&" + digits.replace("/", ",") + "-"

    return _string(re.sub(r"[^ -~]+", shifted, name.replace("&", "&-")).encode())


def _set(asked: SequenceSet) -> bytes:
    if asked.saved:
        return b"$"
    return ",".join(
        ":".join("*" if end is None else str(end) for end in pair) for pair in asked.ranges
    ).encode()


def _list(words: tuple[str, ...] | list[str]) -> bytes:
    return b"(%b)" % " ".join(words).encode()


# --- about mailboxes -----------------------------------------------------------------------------


def _about_mailbox(command: c.Command) -> bytes:
    match command:
        case c.Select():
            return _select(command)
        case c.Create(mailbox, use):
            # One delimiter at the end is dropped when it is read.
            tail = b"" if use is None else b" (USE (%b))" % use.encode()
            return b"CREATE " + _name(mailbox + "/" if mailbox else "") + tail
        case c.Delete(mailbox):
            return b"DELETE " + _name(mailbox)
        case c.Rename(old, new):
            return b"RENAME %b %b" % (_name(old), _name(new))
        case c.Subscribe(mailbox, subscribed):
            return (b"SUBSCRIBE " if subscribed else b"UNSUBSCRIBE ") + _name(mailbox)
        case c.List():
            return _listing(command)
        case c.Status(mailbox, items):
            return b"STATUS %b %b" % (_name(mailbox), _list(items))
        case c.GetQuotaRoot(mailbox):
            return b"GETQUOTAROOT " + _name(mailbox)
        case c.GetQuota(root):
            return b"GETQUOTA " + _string(root.encode())
        case c.GetMetadata():
            return _get_metadata(command)
        case c.SetMetadata(mailbox, entries):
            told = b" ".join(
                b"%b %b" % (_string(name.encode()), b"NIL" if value is None else _string(value))
                for name, value in entries
            )
            return b"SETMETADATA %b (%b)" % (_name(mailbox), told)
        case _:
            raise AssertionError(command)


def _select(command: c.Select) -> bytes:
    words = [b"CONDSTORE"] * command.condstore
    if (known := command.qresync) is not None:
        told = [b"%d" % known.uid_validity, b"%d" % known.modseq]
        told += [_set(known.known_uids)] if known.known_uids else []
        if known.known_sequence:
            told.append(b"(%b %b)" % tuple(map(_set, known.known_sequence)))
        words.append(b"QRESYNC (%b)" % b" ".join(told))
    verb = b"EXAMINE " if command.read_only else b"SELECT "
    return verb + _name(command.mailbox) + (b" (%b)" % b" ".join(words) if words else b"")


def _listing(command: c.List) -> bytes:
    patterns = [_name(pattern) for pattern in command.patterns]
    if not command.is_extended:
        verb = b"LSUB" if command.is_lsub else b"LIST"
        return b"%b %b %b" % (verb, _name(command.reference), patterns[0])
    select = ["SUBSCRIBED"] * command.select_subscribed
    select += ["SPECIAL-USE"] * command.select_special_use
    select += ["RECURSIVEMATCH"] * command.recursive_match
    wanted = ["SUBSCRIBED"] * command.return_subscribed
    wanted += ["SPECIAL-USE"] * command.return_special_use
    wanted += ["CHILDREN"] * command.return_children
    if command.return_status:
        wanted.append(f"STATUS ({' '.join(command.return_status)})")
    tail = b" RETURN " + _list(wanted) if wanted else b""
    return b"LIST %b %b (%b)%b" % (
        _list(select),
        _name(command.reference),
        b" ".join(patterns),
        tail,
    )


def _get_metadata(command: c.GetMetadata) -> bytes:
    depth = "infinity" if command.depth is None else str(command.depth)
    options = [f"DEPTH {depth}"]
    options += [] if command.max_size is None else [f"MAXSIZE {command.max_size}"]
    entries = b" ".join(_string(entry.encode()) for entry in command.entries)
    return b"GETMETADATA %b %b (%b)" % (_list(options), _name(command.mailbox), entries)


# --- about messages ------------------------------------------------------------------------------


def _numbered(command: c.Fetch | c.Store | c.Copy | c.Expunge) -> bytes:
    if isinstance(command, c.Expunge):
        return b"EXPUNGE" if command.uids is None else b"UID EXPUNGE " + _set(command.uids)
    by_uid = b"UID " if command.by_uid else b""
    match command:
        case c.Copy(messages, _, mailbox, move):
            return b"%b%b %b %b" % (
                by_uid,
                b"MOVE" if move else b"COPY",
                _set(messages),
                _name(mailbox),
            )
        case c.Store():
            since = command.unchanged_since
            return b"%bSTORE %b %b%bFLAGS%b %b" % (
                by_uid,
                _set(command.messages),
                b"" if since is None else b"(UNCHANGEDSINCE %d) " % since,
                command.mode.replace("=", "").encode(),
                b".SILENT" if command.silent else b"",
                _list(command.flags),
            )
        case c.Fetch():
            items = [name.encode() for name in command.attributes]
            items += map(_section, command.sections)
            return b"%bFETCH %b (%b)%b" % (
                by_uid,
                _set(command.messages),
                b" ".join(items),
                _fetch_modifiers(command),
            )


def _section(section: c.BodySection) -> bytes:
    label = section.label
    if section.peek and label.startswith(b"BODY["):
        label = label.replace(b"BODY[", b"BODY.PEEK[", 1)
    return label + (b"<%d.%d>" % section.partial if section.partial else b"")


def _fetch_modifiers(command: c.Fetch) -> bytes:
    if command.changed_since is None:
        return b""
    vanished = b" VANISHED" if command.vanished else b""
    return b" (CHANGEDSINCE %d%b)" % (command.changed_since, vanished)


# --- SEARCH --------------------------------------------------------------------------------------


def _search(command: c.Search) -> bytes:
    verb = b"UID SEARCH " if command.by_uid else b"SEARCH "
    options = b"" if command.options is None else b"RETURN %b " % _list(command.options)
    key = command.key
    if isinstance(key, k.SearchAnd) and key != _NEW:
        return verb + options + b" ".join(map(_key, key.keys))
    return verb + options + _key(key)


def _key(key: k.SearchKey) -> bytes:
    match key:
        case k.SearchAll():
            return b"ALL"
        case k.SearchSet(messages, by_uid):
            return (b"UID " if by_uid else b"") + _set(messages)
        case k.SearchFlag("\\Recent", present):
            return b"RECENT" if present else b"OLD"
        case k.SearchFlag(flag, present) if flag.startswith("\\"):
            return (b"" if present else b"UN") + flag[1:].upper().encode()
        case k.SearchFlag(flag, present):
            return (b"KEYWORD " if present else b"UNKEYWORD ") + flag.encode()
        case k.SearchHeader(name, value):
            return b"HEADER %b %b" % (_string(name.encode()), _string(value.encode()))
        case k.SearchText(value, headers_too):
            return (b"TEXT " if headers_too else b"BODY ") + _string(value.encode())
        case k.SearchNot(inner):
            return b"NOT " + _key(inner)
        case k.SearchOr(first, second):
            return b"OR %b %b" % (_key(first), _key(second))
        case k.SearchAnd(keys):
            return b"NEW" if key == _NEW else b"(%b)" % b" ".join(map(_key, keys))
        case _:
            return _measured(key)


def _measured(key: k.SearchKey) -> bytes:
    match key:
        case k.SearchSize(octets, larger):
            return b"%b %d" % (b"LARGER" if larger else b"SMALLER", octets)
        case k.SearchAge(seconds, older):
            return b"%b %d" % (b"OLDER" if older else b"YOUNGER", seconds)
        case k.SearchModseq(modseq):
            return b"MODSEQ %d" % modseq
        case k.SearchDate(comparison, day, sent):
            name = {"<": b"BEFORE", "=": b"ON", ">=": b"SINCE"}[comparison]
            date = datetime.date(1970, 1, 1) + datetime.timedelta(days=day)
            month = _MONTHS[date.month - 1]
            return b"%b%b %d-%b-%04d" % (
                b"SENT" if sent else b"",
                name,
                date.day,
                month,
                date.year,
            )
        case _:
            raise AssertionError(key)

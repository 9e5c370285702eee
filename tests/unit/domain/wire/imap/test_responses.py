"""Encoding of responses, for the strict parser of spec mail 4.2."""

from __future__ import annotations

import pytest

from chatmail.domain.model.mailbox import MailboxId, MailboxInfo, Modseq, Uid, UidValidity
from chatmail.domain.wire.imap import responses


def info(**changes: object) -> MailboxInfo:
    fields: dict[str, object] = {
        "id": MailboxId(1),
        "name": "INBOX",
        "uid_validity": UidValidity(77),
        "uid_next": Uid(10),
        "highest_modseq": Modseq(5),
        "messages": 3,
        "unseen": 1,
        "deleted": 2,
        "octets": 999,
        "special_use": None,
        "is_subscribed": True,
    }
    return MailboxInfo(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("octets", "encoded"),
    [
        pytest.param(b"plain text", b'"plain text"', id="quoted"),
        pytest.param(b"", b'""', id="empty"),
        pytest.param(b'say "hi"', b'{8}\r\nsay "hi"', id="quote needs a literal"),
        pytest.param(b"back\\slash", b"{10}\r\nback\\slash", id="backslash needs a literal"),
        pytest.param(b"\xc3\xa9", b"{2}\r\n\xc3\xa9", id="8 bit needs a literal"),
        pytest.param(b"a\r\nb", b"{4}\r\na\r\nb", id="line end needs a literal"),
        pytest.param(b"a\0b", b"{2}\r\nab", id="NUL never leaves"),
        pytest.param(b"x" * 1001, b"{1001}\r\n" + b"x" * 1001, id="long"),
    ],
)
def test_strings(octets: bytes, encoded: bytes) -> None:
    assert responses.string(octets) == encoded
    assert responses.nstring(octets) == encoded


def test_nil() -> None:
    assert responses.nstring(None) == b"NIL"


def test_a_code_is_followed_by_one_space_and_text() -> None:
    assert responses.ok(b"a1", "Done", "APPENDUID 1 2") == b"a1 OK [APPENDUID 1 2] Done\r\n"
    assert responses.no(b"a1", "Nope") == b"a1 NO Nope\r\n"
    assert responses.bad(b"a1", "What", "CLIENTBUG") == b"a1 BAD [CLIENTBUG] What\r\n"


def test_text_stays_seven_bit_and_on_one_line() -> None:
    assert responses.untagged_ok("caf\xe9\r\n* BYE") == b"* OK caf???* BYE\r\n"


def test_flags_are_in_rfc_order_with_keywords_behind() -> None:
    flags = frozenset(("zeta", "\\Seen", "\\Answered", "Alpha"))
    assert responses.flag_list(flags) == b"(\\Answered \\Seen Alpha zeta)"
    assert responses.flag_list(frozenset()) == b"()"


@pytest.mark.parametrize(
    ("unix_s", "encoded"),
    [
        (0, b'" 1-Jan-1970 00:00:00 +0000"'),
        (1767225599, b'"31-Dec-2025 23:59:59 +0000"'),
        (-5, b'" 1-Jan-1970 00:00:00 +0000"'),
        (10**15, b'"31-Dec-9999 23:59:59 +0000"'),
    ],
)
def test_internal_dates(unix_s: int, encoded: bytes) -> None:
    assert responses.date_time(unix_s) == encoded


def test_select_tells_everything_in_the_order_of_the_specification() -> None:
    told = responses.selected(info(), first_unseen=2, keywords=("kw",), read_only=False)
    assert told.decode().splitlines() == [
        "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft kw)",
        "* OK [PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft kw \\*)] "
        "Flags permitted.",
        "* 3 EXISTS",
        "* 0 RECENT",
        "* OK [UNSEEN 2] First unseen.",
        "* OK [UIDVALIDITY 77] UIDs valid",
        "* OK [UIDNEXT 10] Predicted next UID",
        "* OK [HIGHESTMODSEQ 5] Highest",
    ]


def test_examine_permits_no_flags_and_unseen_is_left_out_when_all_is_seen() -> None:
    told = responses.selected(info(), first_unseen=0, keywords=(), read_only=True)
    assert b"PERMANENTFLAGS ()" in told
    assert b"UNSEEN" not in told


def test_status_keeps_the_asked_order_and_quotes_the_name() -> None:
    items = ("UIDNEXT", "SIZE", "APPENDLIMIT", "DELETED", "RECENT")
    assert responses.status(info(name="A b"), items, 50) == (
        b'* STATUS "A b" (UIDNEXT 10 SIZE 999 APPENDLIMIT 50 DELETED 2 RECENT 0)\r\n'
    )


def test_mailbox_names_are_modified_utf7() -> None:
    assert responses.mailbox_name("Entw\xfcrfe & mehr") == b'"Entw&APw-rfe &- mehr"'


def test_quota_counts_in_1024_octets_rounded_up() -> None:
    assert responses.quota("User quota", 1025, 524288000) == (
        b'* QUOTA "User quota" (STORAGE 2 512000)\r\n'
    )


def test_metadata_values_are_literals_and_the_mailbox_is_quoted() -> None:
    entries = (("/shared/comment", b'{"a":1}'), ("/shared/admin", None))
    assert responses.metadata("", entries) == (
        b'* METADATA "" (/shared/comment {7}\r\n{"a":1} /shared/admin NIL)\r\n'
    )


def test_empty_search_result() -> None:
    assert responses.search(()) == b"* SEARCH\r\n"
    assert responses.search((1, 5)) == b"* SEARCH 1 5\r\n"
    assert responses.search((1,), 9) == b"* SEARCH 1 (MODSEQ 9)\r\n"


def test_esearch_names_its_tag() -> None:
    told = responses.esearch(b"a1", by_uid=True, items=(("MIN", b"1"), ("COUNT", b"3")))
    assert told == b'* ESEARCH (TAG "a1") UID MIN 1 COUNT 3\r\n'


def test_list_child_information() -> None:
    assert responses.listed(b"LIST", ("\\HasChildren",), "a", childinfo=True) == (
        b'* LIST (\\HasChildren) "/" "a" ("CHILDINFO" ("SUBSCRIBED"))\r\n'
    )


def test_vanished_is_one_compact_line() -> None:
    assert responses.vanished([1, 2, 3, 7]) == b"* VANISHED 1:3,7\r\n"
    assert responses.vanished([4], earlier=True) == b"* VANISHED (EARLIER) 4\r\n"
    assert responses.vanished([]) == b""
    assert responses.vanished(range(1, 4_000_000)) == b"* VANISHED 1:3999999\r\n"


def test_a_long_vanished_is_several_lines_that_a_client_may_send_back() -> None:
    """RFC 7162 §4."""
    uids = range(1_000_001, 1_040_000, 2)
    lines = responses.vanished(uids, earlier=True).split(b"\r\n")
    assert lines.pop() == b""
    assert max(map(len, lines)) <= 8100
    assert {line[:21] for line in lines} == {b"* VANISHED (EARLIER) "}
    assert b",".join(line[21:] for line in lines) == b",".join(b"%d" % uid for uid in uids)


def test_names_for_who_enabled_utf8() -> None:
    assert responses.mailbox_name("ü &", True) == '"ü &"'.encode()
    assert responses.mailbox_name('a"b', True) == b'{3}\r\na"b'
    assert responses.listed(b"LIST", (), "ü", is_utf8=True) == '* LIST () "/" "ü"\r\n'.encode()
    assert responses.listed(b"LIST", (), "b", old_name="ü") == (
        b'* LIST () "/" "b" ("OLDNAME" ("&APw-"))\r\n'
    )
    assert responses.quota_root("ü", "r", is_utf8=True) == '* QUOTAROOT "ü" "r"\r\n'.encode()
    assert responses.metadata("ü", [("/a", None)], is_utf8=True) == (
        '* METADATA "ü" (/a NIL)\r\n'.encode()
    )


def test_unsolicited_metadata_names_entries_alone() -> None:
    """RFC 5464 §4.4.2."""
    assert responses.metadata_changed("INBOX", ["/a", "/b"]) == b'* METADATA "INBOX" /a /b\r\n'
    assert responses.metadata_changed("", []) == b""


def test_select_of_imap4rev2_leaves_out_what_was_taken_away() -> None:
    told = responses.selected(info(), first_unseen=2, keywords=(), read_only=False, is_rev2=True)
    assert b"RECENT" not in told
    assert b"UNSEEN" not in told
    assert b"* 3 EXISTS\r\n" in told


def test_held_news_is_covered_by_a_modseq() -> None:
    assert responses.held_back(7) == b"* OK [HIGHESTMODSEQ 7] Some changes wait\r\n"

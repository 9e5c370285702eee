"""Facts of a header block; the rules themselves are in the tables of the gate."""

from __future__ import annotations

import pytest

from chatmail.domain.formats.facts import Finding, HeaderFacts
from chatmail.domain.formats.header_rules import content_type_of, header_facts, header_fault
from chatmail.domain.formats.rfc5322 import parse_header


def facts(*lines: str) -> HeaderFacts:
    block = parse_header("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n")
    return header_facts(block, content_type_of(block))


def fault(*lines: str) -> Finding:
    return header_fault(parse_header("".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"))


def test_what_is_read() -> None:
    found = facts(
        "From: A <a@b>",
        "Sender: c@d",
        "Message-ID:\r\n <1@x>",
        "Subject: s",
        "Auto-Submitted: Auto-Replied; a=b",
        "Received: x",
        "received: y",
        "X: " + "y" * 257,
        "Content-Type: Multipart/Mixed; boundary=b",
    )
    assert str(found.from_address) == "a@b"
    assert str(found.sender) == "c@d"
    assert found.message_id == b"<1@x>"
    assert found.subject == b"s"
    assert found.auto_submitted == b"auto-replied"
    assert found.received_count == 2
    assert found.long_fields == {b"x"}
    assert found.media_type == b"multipart/mixed"
    assert found.has_message_id
    assert not found.has_date
    assert b"received" in found.names


def test_what_is_absent() -> None:
    found = facts("X: y")
    assert found == HeaderFacts(names=frozenset({b"x"}), media_type=b"text/plain")
    assert found.from_address is None


def test_what_is_malformed() -> None:
    found = facts("From: a@b, c@d", "Sender:", "Auto-Submitted: ;", "Content-Type: text")
    assert found.from_address is None
    assert len(found.from_mailboxes) == 2
    assert found.has_sender
    assert found.sender is None
    assert found.auto_submitted == b""
    assert found.media_type == b""


@pytest.mark.parametrize(("size", "is_long"), [(256, False), (257, True)])
def test_long_fields_are_measured_unfolded(size: int, is_long: bool) -> None:
    value = "x" * 100 + "\r\n\t" + "y" * (size - 101)
    assert (b"a" in facts(f"A: {value}").long_fields) == is_long


def test_earlier_rules_hide_later_ones() -> None:
    assert fault("X: " + "y" * 999, "no field") == Finding("P-05", "P-05")
    assert fault("Subject: ä", "no field") == Finding("P-07", "H-01")
    assert fault("Subject: ä", "From: a", "From: b") == Finding("P-07", "H-03")
    assert fault("Subject: ä") == Finding("P-07", None)
    assert fault("Resent-To: ä") == Finding("P-07", "P-07")

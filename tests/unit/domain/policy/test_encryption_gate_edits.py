"""What the gate has removed or replaced in the header of a message it takes."""

from __future__ import annotations

from chatmail.domain.formats.rfc5322 import edit_header
from chatmail.domain.model.message import DeleteField, ReplaceValue
from tests.builders import ALICE, make_message, securejoin_request
from tests.unit.domain.policy.judging import APPEND, INB, accepted, remote
from tests.unit.domain.scanning import scan


def test_h04_fields_are_removed_on_submission() -> None:
    names = [
        "Bcc",
        "Resent-From",
        "Resent-To",
        "DKIM-Signature",
        "Authentication-Results",
        "ARC-Seal",
        "ARC-Message-Signature",
        "Return-Path",
        "Delivered-To",
        "Received",
        "X-Originating-IP",
        "X-Mailer",
        "User-Agent",
    ]
    fields = [(name, "x") for name in names]
    edits = accepted(make_message(fields=fields)).edits
    assert set(edits) == {DeleteField(name.lower().encode()) for name in names}


def test_subject_is_replaced_on_submission_for_every_kind() -> None:
    listed = {"passthrough_senders": frozenset({ALICE})}
    subject = [("Subject", "secret")]
    for message in (
        make_message(fields=subject),
        securejoin_request(fields=subject),
        make_message(fields=subject, encrypted=False),
    ):
        assert accepted(message, settings=listed).edits == (ReplaceValue(b"subject", b"[...]"),)
    assert accepted(make_message(without=["Subject"])).edits == ()
    assert accepted(remote(make_message(fields=subject)), INB).edits == ()
    assert accepted(make_message(fields=subject), APPEND).edits == ()


def test_a_message_of_core_stays_octet_for_octet() -> None:
    message = make_message()
    facts = scan(message)
    assert facts.header is not None
    assert edit_header(facts.header, accepted(message).edits) == facts.header


def test_inbound_trace_fields_are_removed() -> None:
    fields = [("Received", "x"), ("Received", "y"), ("DKIM-Signature", "v=1"), ("User-Agent", "z")]
    fields.append(("Authentication-Results", "a"))
    edits = accepted(remote(make_message(fields=fields)), INB).edits
    assert {edit.name for edit in edits} == {
        b"received",
        b"dkim-signature",
        b"authentication-results",
    }


def test_append_edits_nothing() -> None:
    assert accepted(make_message(fields=[("Received", "x"), ("Bcc", "y")]), APPEND).edits == ()


def test_strict_outer_headers_keep_only_what_core_knows() -> None:
    fields = [("X-Note", "x"), ("Keywords", "y"), ("List-Id", "l"), ("Chat-Disposition", "c")]
    fields += [("References", "<r>"), ("Autocrypt", "a"), ("Content-Transfer-Encoding", "7bit")]
    edits = accepted(make_message(fields=fields), settings={"strict_outer_headers": True}).edits
    assert {edit.name for edit in edits} == {b"x-note", b"keywords"}
    assert accepted(make_message(fields=fields)).edits == ()

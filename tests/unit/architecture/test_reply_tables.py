"""Every face has an answer for every reason: a missing one would be an exception to a peer."""

from __future__ import annotations

import enum
from collections.abc import Mapping

import pytest

from chatmail.adapters.http.replies import MXDELIV_STATUS, STATUS
from chatmail.adapters.imap.replies import METADATA_REFUSALS, PROBLEMS, REFUSALS
from chatmail.adapters.smtp.replies import REPLIES
from chatmail.domain.model.verdict import RefusalReason
from chatmail.domain.ports.mailstore import MailboxProblem
from chatmail.domain.usecases.register import RegistrationProblem
from chatmail.domain.usecases.service_metadata import MetadataRefusal
from chatmail.domain.wire.smtp.replies import Reply


@pytest.mark.parametrize(
    ("table", "reasons"),
    [
        pytest.param(REPLIES, RefusalReason, id="smtp"),
        pytest.param(REFUSALS, RefusalReason, id="imap"),
        pytest.param(PROBLEMS, MailboxProblem, id="imap-mailboxes"),
        pytest.param(METADATA_REFUSALS, MetadataRefusal, id="imap-metadata"),
        pytest.param(STATUS, RegistrationProblem, id="http-registration"),
        pytest.param(MXDELIV_STATUS, RefusalReason, id="mxdeliv"),
    ],
)
def test_the_table_is_total(table: Mapping[enum.Enum, object], reasons: type[enum.Enum]) -> None:
    assert set(table) == set(reasons)


def test_imap_refusals_are_negative() -> None:
    tables = (REFUSALS, PROBLEMS, METADATA_REFUSALS)
    for reply in [reply for table in tables for reply in table.values()]:
        assert reply.to(b"t").startswith((b"t NO ", b"t BAD "))
        assert reply.to(b"t").endswith(b"\r\n")


def test_http_refusals_are_errors() -> None:
    for table in (STATUS, MXDELIV_STATUS):
        assert all(400 <= status < 600 for status in table.values())


def test_a_temporary_refusal_of_mail_is_temporary_on_both_surfaces() -> None:
    for reason, entry in REPLIES.items():
        reply = entry if isinstance(entry, Reply) else None
        if reply is not None and reason is not RefusalReason.TLS_REQUIRED:
            assert (MXDELIV_STATUS[reason] in (429, 503)) == (400 <= reply.code < 500), reason

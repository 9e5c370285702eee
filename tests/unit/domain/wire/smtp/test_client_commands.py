from __future__ import annotations

import pytest

from chatmail.domain.model.address import EmailAddress
from chatmail.domain.wire.smtp.client_commands import mail_command, parse_capabilities, path
from chatmail.domain.wire.smtp.client_events import Transaction


def test_capabilities_are_keywords_and_parameters_in_any_case() -> None:
    assert parse_capabilities(("Size 100", "PIPELINING ", "auth plain LOGIN", "")) == {
        "SIZE": "100",
        "PIPELINING": "",
        "AUTH": "PLAIN LOGIN",
        "": "",
    }


@pytest.mark.parametrize(
    ("capabilities", "is_eight_bit", "command"),
    [
        ({}, True, "MAIL FROM:<>"),
        ({"SIZE": ""}, True, "MAIL FROM:<> SIZE=7"),
        ({"8BITMIME": ""}, True, "MAIL FROM:<> BODY=8BITMIME"),
        ({"SIZE": "", "8BITMIME": "", "SMTPUTF8": ""}, False, "MAIL FROM:<> SIZE=7"),
    ],
)
def test_only_what_is_offered_is_asked_for(
    capabilities: dict[str, str], is_eight_bit: bool, command: str
) -> None:
    """A6.2."""
    mail = Transaction(
        reverse_path=None,
        recipients=(EmailAddress("bob", "peer.example"),),
        size=7,
        is_eight_bit=is_eight_bit,
    )
    assert mail_command(mail, capabilities) == command


@pytest.mark.parametrize(
    ("local", "expected"),
    [
        ("bob", "bob@peer.example"),
        ("b.o-b+tag", "b.o-b+tag@peer.example"),
        ("b..b", '"b..b"@peer.example'),
        (".b", '".b"@peer.example'),
        ('b"b', '"b\\"b"@peer.example'),
        ("b\\", '"b\\\\"@peer.example'),
        ("b>size=1", '"b>size=1"@peer.example'),
    ],
)
def test_odd_local_parts_are_quoted(local: str, expected: str) -> None:
    """A path cannot end early and go on as parameters."""
    assert path(EmailAddress(local, "peer.example")) == expected


def test_a_literal_keeps_its_brackets() -> None:
    assert path(EmailAddress.parse("bob@127.0.0.1")) == "bob@[127.0.0.1]"


def test_the_local_part_is_passed_on_as_it_was_written() -> None:
    assert path(EmailAddress.parse("Bob.Smith@Peer.Example")) == "Bob.Smith@peer.example"

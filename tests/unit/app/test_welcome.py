"""The demo's welcome tells everything a person needs."""

from __future__ import annotations

import re

import PIL.Image
import pytest
import zxingcpp

from chatmail.app.terminal_qr import terminal_qr
from chatmail.app.welcome import welcome_text
from chatmail.domain.formats.account_links import BoundPorts, CertificateKind, RelayFacts

FACTS = RelayFacts(
    mail_domain="[127.0.0.1]",
    hostname="127.0.0.1",
    certificate=CertificateKind.SELF_SIGNED,
    ports=BoundPorts(
        imaps=2993, imap=2143, submissions=2465, submission=2587, https=2443, http=2080
    ),
)
LINK = (
    "dclogin:abcdefghi@[127.0.0.1]?p=secret&v=1&ih=127.0.0.1&ip=2993&is=ssl"
    "&sh=127.0.0.1&sp=2465&ss=ssl&ic=3"
)


def welcome(*, is_terminal: bool) -> str:
    return welcome_text(
        FACTS,
        "abcdefghi@[127.0.0.1]",
        "secret",
        state_dir="./chatmail-demo",
        is_terminal=is_terminal,
    )


def test_welcome_names_page_link_settings_and_state() -> None:
    text = welcome(is_terminal=False)
    for piece in (
        "http://127.0.0.1:2080/",
        LINK,
        "port 2993, SSL/TLS",
        "port 2465, SSL/TLS",
        "accept invalid certificates",
        "./chatmail-demo",
    ):
        assert piece in text
    assert text.endswith("\n")


def test_code_is_drawn_in_a_terminal_only() -> None:
    assert "\x1b" not in welcome(is_terminal=False)
    assert "█" not in welcome(is_terminal=False)
    assert terminal_qr(LINK) in welcome(is_terminal=True)


def test_link_stands_alone_on_its_line() -> None:
    assert LINK in [line.strip() for line in welcome(is_terminal=False).splitlines()]


@pytest.mark.parametrize("data", [LINK, "DCACCOUNT:https://chat.example.org/new"])
def test_code_fits_a_terminal_and_decodes(data: str) -> None:
    lines = terminal_qr(data).splitlines()
    rows: list[list[int]] = []
    for line in lines:
        found = re.fullmatch("\x1b\\[30;107m([█▀▄ ]+)\x1b\\[0m", line)
        assert found
        rows.append([0 if char in "█▀" else 255 for char in found[1]])
        rows.append([0 if char in "█▄" else 255 for char in found[1]])
    assert len(rows[0]) <= 80
    image = PIL.Image.new("L", (len(rows[0]), len(rows)), 255)
    image.putdata([module for row in rows for module in row])
    large = image.resize((image.width * 4, image.height * 4), PIL.Image.Resampling.NEAREST)
    assert zxingcpp.read_barcodes(large)[0].text == data

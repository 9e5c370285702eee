"""The public page in each of its states, and the codes it shows."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import attrs
import PIL.Image
import pytest
import zxingcpp

from chatmail.domain.formats.account_links import CertificateKind
from chatmail.domain.usecases.register import RegistrationProblem
from tests.unit.adapters.http.asgi import DEMO, NAMED, Site

INVITE = "DCACCOUNT:https://chat.example.org/new"
CLOSED = attrs.evolve(NAMED, registration_open=False)


def decoded(png: bytes) -> str:
    found = zxingcpp.read_barcodes(PIL.Image.open(io.BytesIO(png)))
    return found[0].text


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attributes)))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.seen if tag == name]


async def test_dcaccount_kind_is_complete_without_a_script() -> None:
    answer = await Site(NAMED).ask("GET", "/")
    tags = Tags(answer.text)
    assert [a for a in tags.named("a") if a.get("href") == INVITE]
    assert [field for field in tags.named("input") if field.get("value") == INVITE]
    assert [image for image in tags.named("img") if (image["src"] or "").startswith("data:image")]
    assert not tags.named("form")


async def test_dclogin_kind_makes_nothing_before_the_button() -> None:
    site = Site(DEMO)
    answer = await site.ask("GET", "/")
    form = Tags(answer.text).named("form")[0]
    assert (form["method"], (form["action"] or "").partition("?")[0]) == ("post", "/new")
    assert "dclogin:" not in answer.text
    assert not site.register.calls


async def test_underscore_name_offers_both_ways() -> None:
    relay = attrs.evolve(
        NAMED.relay,
        mail_domain="_x.test",
        hostname="_x.test",
        certificate=CertificateKind.SELF_SIGNED,
    )
    text = (await Site(attrs.evolve(NAMED, relay=relay)).ask("GET", "/")).text
    assert "DCACCOUNT:https://_x.test/new" in text
    assert Tags(text).named("form")


async def test_closed_registration_is_stated_without_a_button() -> None:
    for facts in (CLOSED, attrs.evolve(NAMED, require_token=True)):
        text = (await Site(facts).ask("GET", "/")).text
        assert "Registration is closed" in text
        assert "DCACCOUNT" not in text
        assert 'class="button"' not in text


@pytest.mark.parametrize("path", ["/inv/T-1_x", "/invite/T-1_x"])
async def test_invitation_works_with_closed_registration(path: str) -> None:
    site = Site(CLOSED)
    answer = await site.ask("GET", path)
    assert f"{INVITE}?token=T-1_x" in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert not site.register.calls


async def test_invitation_to_a_dclogin_kind_carries_the_token_in_its_form() -> None:
    answer = await Site(attrs.evolve(DEMO, registration_open=False)).ask("GET", "/inv/T1")
    hidden = [field for field in Tags(answer.text).named("input") if field["type"] == "hidden"]
    assert hidden == [{"type": "hidden", "name": "token", "value": "T1"}]


@pytest.mark.parametrize("path", ["/inv/%22%3E%3Cscript%3E", "/inv/" + "a" * 65, "/inv/"])
async def test_impossible_invitation_is_404(path: str) -> None:
    assert (await Site().ask("GET", path)).status == 404


async def test_invite_without_token_is_the_page() -> None:
    assert INVITE in (await Site(NAMED).ask("GET", "/invite")).text


async def test_page_has_no_inline_script_style_or_foreign_resource() -> None:
    for facts in (DEMO, NAMED, CLOSED):
        tags = Tags((await Site(facts).ask("GET", "/")).text)
        for tag, attributes in tags.seen:
            assert tag != "style"
            assert "style" not in attributes
            assert not [name for name in attributes if name.startswith("on")]
            if tag == "script":
                assert (attributes["src"] or "").startswith("/main.js")
            if tag in ("img", "script") or (tag == "link" and attributes["rel"] != "canonical"):
                source = attributes.get("src") or attributes.get("href") or ""
                assert source.startswith(("/", "data:"))


async def test_page_names_limits_and_contact() -> None:
    text = (await Site(attrs.evolve(NAMED, contact="team@example.org")).ask("GET", "/")).text
    for piece in ("30 MB", "500 MB", "20 days", "7 days", "90 days", "mailto:team@example.org"):
        assert piece in text


async def test_page_keeps_silent_about_limits_that_are_off() -> None:
    text = (await Site(DEMO).ask("GET", "/")).text
    assert "days" not in text
    assert "mailto:" not in text


async def test_page_escapes_what_the_operator_wrote() -> None:
    facts = attrs.evolve(NAMED, title="<b>&", contact='a"b@c')
    text = (await Site(facts).ask("GET", "/")).text
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text


@pytest.mark.parametrize(
    ("language", "marker"),
    [("en", "Get your account"), ("es", "Consigue"), ("ru", "Получите"), ("fa", 'dir="rtl"')],
)
async def test_languages(language: str, marker: str) -> None:
    answer = await Site(attrs.evolve(NAMED, language=language)).ask("GET", "/")
    assert marker in answer.text
    assert f'<html lang="{language}"' in answer.text
    assert answer.headers["content-language"] == language


async def test_auto_language_follows_the_browser() -> None:
    site = Site(attrs.evolve(NAMED, language="auto"))
    answer = await site.ask("GET", "/", {"accept-language": "de, ru;q=0.8, en;q=0.7"})
    assert answer.headers["content-language"] == "ru"
    assert "Accept-Language" in answer.headers["vary"]
    picked = await site.ask("GET", "/?lang=fa", {"accept-language": "ru"})
    assert picked.headers["content-language"] == "fa"


async def test_fixed_language_ignores_the_browser() -> None:
    answer = await Site(NAMED).ask("GET", "/", {"accept-language": "ru"})
    assert answer.headers["content-language"] == "en"


async def test_refused_form_on_a_closed_page_shows_the_reason() -> None:
    site = Site(CLOSED)
    site.register.outcome = RegistrationProblem.CLOSED
    answer = await site.ask("POST", "/new", {"accept": "text/html"})
    assert answer.status == 403
    assert 'role="alert"' in answer.text


async def test_own_address_of_a_literal_relay_is_used_in_links() -> None:
    site = Site(attrs.evolve(DEMO, own_hosts=frozenset({"192.0.2.7"})))
    by_other = await site.ask("POST", "/new", host="192.0.2.7:2080")
    assert "ih=192.0.2.7" in by_other.json()["dclogin_url"]
    forged = await site.ask("POST", "/new", host="evil.example")
    assert "ih=127.0.0.1" in forged.json()["dclogin_url"]
    assert "evil" not in forged.text


# --- QR codes ---


@pytest.mark.parametrize(
    "data",
    [
        INVITE,
        "dclogin:u@[127.0.0.1]?p=AAAABBBBCCCCDDDDEEEEFF&v=1&ih=127.0.0.1&ip=2993&is=ssl&ic=3",
        "https://i.delta.chat/#ABCDEF",
        "OPENPGP4FPR:ABCDEF",
        "ss://abc@127.0.0.1:8388",
    ],
)
async def test_qr_route_draws_our_links(data: str) -> None:
    target = "/qr?data=" + "".join(f"%{octet:02x}" for octet in data.encode())
    answer = await Site().ask("GET", target)
    assert answer.headers["content-type"] == "image/png"
    assert decoded(answer.body) == data


async def test_qr_route_draws_svg() -> None:
    answer = await Site().ask("GET", "/qr?format=svg&data=dcaccount:example.org")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert re.match(r'<svg width="3\d\d" ', answer.text)
    assert "viewBox" in answer.text


@pytest.mark.parametrize(
    "target",
    ["/qr", "/qr?data=", "/qr?data=https://x.example/", "/qr?data=dcaccount:" + "a" * 1024],
)
async def test_qr_route_draws_nothing_else(target: str) -> None:
    assert (await Site().ask("GET", target)).status == 400


async def test_qr_of_a_password_is_not_kept() -> None:
    answer = await Site().ask("GET", "/qr?data=DCLOGIN:u@d?p=x")
    assert answer.headers["cache-control"] == "no-store"
    answer = await Site().ask("GET", "/qr?data=dcaccount:d")
    assert answer.headers["cache-control"] == "public, max-age=86400"


async def test_printed_invite_picture() -> None:
    answer = await Site(NAMED).ask("GET", "/qr-chatmail-invite-chat.example.org.png")
    assert decoded(answer.body) == INVITE
    host_style = attrs.evolve(NAMED, relay=attrs.evolve(NAMED.relay, host_style=True))
    answer = await Site(host_style).ask("GET", "/qr-chatmail-invite-chat.example.org.png")
    assert decoded(answer.body) == INVITE
    assert (await Site(NAMED).ask("GET", "/qr-chatmail-invite-other.png")).status == 404
    assert (await Site(DEMO).ask("GET", "/qr-chatmail-invite-[127.0.0.1].png")).status == 404


async def test_picture_in_the_page_is_an_svg_of_the_link() -> None:
    text = (await Site(NAMED).ask("GET", "/")).text
    found = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert found
    assert base64.b64decode(found[1]).startswith(b"<svg")

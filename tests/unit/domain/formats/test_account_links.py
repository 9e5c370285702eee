"""Links and autoconfig name what is bound, and nothing else."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from urllib.parse import parse_qsl, unquote

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatmail.domain.formats.account_links import (
    BoundPorts,
    CertificateKind,
    RelayFacts,
    autoconfig_xml,
    dcaccount_link,
    dclogin_link,
    mail_host,
    page_url,
    secure_url,
)

STANDARD = BoundPorts(
    imaps=993, imap=143, submissions=465, submission=587, https=443, http=80, alpn_mux=True
)
DEMO_PORTS = BoundPorts(
    imaps=2993, imap=2143, submissions=2465, submission=2587, https=2443, http=2080, alpn_mux=True
)
NAME = RelayFacts(
    mail_domain="chat.example.org",
    hostname="chat.example.org",
    certificate=CertificateKind.CA,
    ports=STANDARD,
)
DEMO = RelayFacts(
    mail_domain="[127.0.0.1]",
    hostname="127.0.0.1",
    certificate=CertificateKind.SELF_SIGNED,
    ports=DEMO_PORTS,
)
SIX = attrs.evolve(DEMO, mail_domain="[IPv6:2001:db8::1]", hostname="2001:db8::1")


def self_signed(facts: RelayFacts) -> RelayFacts:
    return attrs.evolve(facts, certificate=CertificateKind.SELF_SIGNED)


def fields_of(link: str) -> dict[str, str]:
    return dict(parse_qsl(link.partition("?")[2], strict_parsing=True))


# --- dcaccount (D1.1, D1.2a, D5) ---


def test_open_name_with_ca_certificate_invites_by_url() -> None:
    assert dcaccount_link(NAME) == "DCACCOUNT:https://chat.example.org/new"


def test_invite_carries_the_token() -> None:
    assert dcaccount_link(NAME, "T-1_x") == "DCACCOUNT:https://chat.example.org/new?token=T-1_x"


def test_invite_never_has_slashes_after_the_scheme() -> None:
    for facts in (NAME, attrs.evolve(NAME, host_style=True)):
        assert "DCACCOUNT://" not in (dcaccount_link(facts) or "")


def test_host_style_is_for_tokenless_invites() -> None:
    facts = attrs.evolve(NAME, host_style=True)
    assert dcaccount_link(facts) == "DCACCOUNT:chat.example.org"
    assert dcaccount_link(facts, "T") == "DCACCOUNT:https://chat.example.org/new?token=T"


def test_underscore_name_may_be_self_signed() -> None:
    facts = self_signed(attrs.evolve(NAME, mail_domain="_x.test", hostname="_x.test"))
    assert dcaccount_link(facts) == "DCACCOUNT:https://_x.test/new"


def test_non_standard_https_port_is_named() -> None:
    facts = attrs.evolve(NAME, ports=attrs.evolve(STANDARD, https=8443))
    assert dcaccount_link(facts) == "DCACCOUNT:https://chat.example.org:8443/new"


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(self_signed(NAME), id="self-signed-name"),
        pytest.param(DEMO, id="literal-self-signed"),
        pytest.param(
            attrs.evolve(DEMO, certificate=CertificateKind.CA, ports=STANDARD), id="literal-ca"
        ),
        pytest.param(attrs.evolve(NAME, ports=attrs.evolve(STANDARD, https=None)), id="no-https"),
        pytest.param(attrs.evolve(NAME, ports=DEMO_PORTS), id="ports-core-cannot-find"),
    ],
)
def test_no_dcaccount_link_where_core_could_not_use_it(facts: RelayFacts) -> None:
    assert dcaccount_link(facts) is None


# --- dclogin (D1.5, D1.6, D5, D5.1-D5.3) ---


def test_demo_link_is_exact() -> None:
    assert dclogin_link(DEMO, "u@[127.0.0.1]", "secret") == (
        "dclogin:u@[127.0.0.1]?p=secret&v=1&ih=127.0.0.1&ip=2993&is=ssl"
        "&sh=127.0.0.1&sp=2465&ss=ssl&ic=3"
    )


def test_literal_with_ca_certificate_is_strict() -> None:
    facts = RelayFacts(
        mail_domain="[1.2.3.4]",
        hostname="1.2.3.4",
        certificate=CertificateKind.CA,
        ports=STANDARD,
    )
    assert dclogin_link(facts, "u@[1.2.3.4]", "s") == (
        "dclogin:u@[1.2.3.4]?p=s&v=1&ih=1.2.3.4&ip=993&is=ssl&sh=1.2.3.4&sp=465&ss=ssl&ic=1"
    )


def test_self_signed_name_leaves_servers_to_autoconfig() -> None:
    link = dclogin_link(self_signed(NAME), "u@chat.example.org", "s")
    assert link == "dclogin:u@chat.example.org?p=s&v=1&ic=3"


@pytest.mark.parametrize("facts", [NAME, DEMO, SIX, attrs.evolve(NAME, ports=DEMO_PORTS)])
def test_ca_certificate_is_never_switched_off(facts: RelayFacts) -> None:
    link = dclogin_link(attrs.evolve(facts, certificate=CertificateKind.CA), "u@d", "s")
    assert fields_of(link)["ic"] == "1"


def test_non_standard_ports_are_pinned() -> None:
    fields = fields_of(dclogin_link(attrs.evolve(NAME, ports=DEMO_PORTS), "u@d", "s"))
    assert (fields["ip"], fields["sp"]) == ("2993", "2465")
    assert fields["ih"] == fields["sh"] == "chat.example.org"


def test_starttls_is_used_where_it_is_all_there_is() -> None:
    ports = BoundPorts(imap=2143, submission=2587)
    fields = fields_of(dclogin_link(attrs.evolve(DEMO, ports=ports), "u@d", "s"))
    assert (fields["ip"], fields["is"]) == ("2143", "starttls")
    assert (fields["sp"], fields["ss"]) == ("2587", "starttls")


def test_https_port_serves_mail_when_it_alone_is_bound() -> None:
    ports = BoundPorts(https=443, alpn_mux=True)
    fields = fields_of(dclogin_link(attrs.evolve(NAME, ports=ports), "u@d", "s"))
    assert (fields["ip"], fields["is"], fields["sp"], fields["ss"]) == ("443", "ssl", "443", "ssl")


def test_https_port_without_mux_is_no_mail_port() -> None:
    ports = BoundPorts(https=443)
    assert "ip" not in fields_of(dclogin_link(attrs.evolve(NAME, ports=ports), "u@d", "s"))


@pytest.mark.parametrize(
    ("asked", "port", "shown"),
    [("ssl", "2993", "ssl"), ("starttls", "2143", "starttls"), ("default", "2993", "default")],
)
def test_security_setting_overrides(asked: str, port: str, shown: str) -> None:
    facts = attrs.evolve(DEMO, imap_security=asked)
    fields = fields_of(dclogin_link(facts, "u@d", "s"))
    assert (fields["ip"], fields["is"]) == (port, shown)


def test_security_that_is_not_bound_is_not_promised() -> None:
    facts = attrs.evolve(DEMO, imap_security="starttls", ports=BoundPorts(imaps=2993))
    fields = fields_of(dclogin_link(facts, "u@d", "s"))
    assert (fields["ip"], fields["is"]) == ("2993", "ssl")


def test_ipv6_literal_pins_the_bare_address() -> None:
    link = dclogin_link(SIX, "u@[IPv6:2001:db8::1]", "s")
    assert link.startswith("dclogin:u@[IPv6:2001:db8::1]?")
    assert fields_of(link)["ih"] == "2001:db8::1"


@given(password=st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_any_password_survives_form_decoding(password: str) -> None:
    link = dclogin_link(DEMO, "u@[127.0.0.1]", password)
    assert fields_of(link)["p"] == password
    assert link.isascii()
    assert "+" not in link.partition("?")[2]


def test_everything_but_unreserved_characters_is_encoded_in_a_password() -> None:
    link = dclogin_link(DEMO, "u@[127.0.0.1]", "a/b:@ +~-._")
    assert "?p=a%2Fb%3A%40%20%2B~-._&" in link


def test_address_is_encoded_but_for_at_and_brackets() -> None:
    link = dclogin_link(DEMO, "a/b?c@[127.0.0.1]", "s")
    shown = link.removeprefix("dclogin:").partition("?")[0]
    assert shown == "a%2Fb%3Fc@[127.0.0.1]"
    assert unquote(shown) == "a/b?c@[127.0.0.1]"


# --- addresses of the page ---


@pytest.mark.parametrize(
    ("facts", "url"),
    [
        pytest.param(NAME, "https://chat.example.org", id="standard"),
        pytest.param(DEMO, "http://127.0.0.1:2080", id="no-browser-warning"),
        pytest.param(SIX, "http://[2001:db8::1]:2080", id="ipv6-in-brackets"),
        pytest.param(
            attrs.evolve(DEMO, ports=BoundPorts(https=2443)), "https://127.0.0.1:2443", id="https"
        ),
        pytest.param(attrs.evolve(DEMO, ports=BoundPorts(imaps=993)), None, id="no-web-face"),
    ],
)
def test_page_url(facts: RelayFacts, url: str | None) -> None:
    assert page_url(facts) == url


def test_secure_url_needs_https() -> None:
    assert secure_url(DEMO) == "https://127.0.0.1:2443"
    assert secure_url(attrs.evolve(DEMO, ports=BoundPorts(http=80))) is None


def test_mail_host_of_a_literal_is_an_address() -> None:
    assert mail_host(attrs.evolve(DEMO, hostname="some.name")) == "127.0.0.1"
    assert mail_host(attrs.evolve(DEMO, hostname="127.0.0.2")) == "127.0.0.2"


# --- autoconfig (D4) ---


def servers(xml: str) -> list[tuple[str, str, str, str]]:
    provider = ElementTree.fromstring(xml).find("emailProvider")
    assert provider is not None
    return [
        (
            server.get("type", ""),
            server.findtext("hostname", ""),
            server.findtext("port", ""),
            server.findtext("socketType", ""),
        )
        for server in provider
        if server.tag in ("incomingServer", "outgoingServer")
    ]


def test_autoconfig_lists_servers_in_the_order_core_tries() -> None:
    facts = attrs.evolve(NAME, hostname="mx.example.org")
    assert servers(autoconfig_xml(facts)) == [
        ("imap", "mx.example.org", "993", "SSL"),
        ("imap", "mx.example.org", "143", "STARTTLS"),
        ("imap", "mx.example.org", "443", "SSL"),
        ("smtp", "mx.example.org", "465", "SSL"),
        ("smtp", "mx.example.org", "587", "STARTTLS"),
        ("smtp", "mx.example.org", "443", "SSL"),
    ]


def test_autoconfig_lists_only_bound_listeners() -> None:
    facts = attrs.evolve(NAME, ports=BoundPorts(imap=143, submissions=465, https=443))
    assert [row[2] for row in servers(autoconfig_xml(facts))] == ["143", "465"]


def test_autoconfig_can_put_https_first() -> None:
    facts = attrs.evolve(NAME, https_first=True)
    assert [row[2] for row in servers(autoconfig_xml(facts))][::3] == ["443", "443"]


def test_autoconfig_of_a_literal_names_the_bare_address() -> None:
    provider = ElementTree.fromstring(autoconfig_xml(DEMO)).find("emailProvider")
    assert provider is not None
    assert provider.findtext("domain") == "127.0.0.1"
    assert {row[1] for row in servers(autoconfig_xml(DEMO))} == {"127.0.0.1"}


def test_autoconfig_login_is_the_address_with_a_plain_password() -> None:
    root = ElementTree.fromstring(autoconfig_xml(NAME))
    assert root.get("version") == "1.1"
    assert {node.text for node in root.iter("username")} == {"%EMAILADDRESS%"}
    assert {node.text for node in root.iter("authentication")} == {"password-cleartext"}


def test_autoconfig_escapes_names() -> None:
    xml = autoconfig_xml(attrs.evolve(NAME, mail_domain="a&b<c", hostname="a&b"))
    provider = ElementTree.fromstring(xml).find("emailProvider")
    assert provider is not None
    assert provider.findtext("domain") == "a&b<c"

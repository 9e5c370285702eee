"""The web face of the running relay: accounts, autoconfig, codes, health, redirects."""

from __future__ import annotations

import datetime
import gzip
import imaplib
import io
import json
import re
import smtplib
import socket
import ssl
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import PIL.Image
import pytest
import zxingcpp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.e2e import wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.mailbox import newcomer
from tests.e2e.raw import in_parallel
from tests.e2e.rawsmtp import RawSmtp, plain
from tests.e2e.relay import Relay
from tests.e2e.web import Answer, Web

FACES = ("http", "https")
AUTOCONFIG = "/.well-known/autoconfig/mail/config-v1.1.xml"
NAME = "relay.test"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    http = {"trusted_proxies": '["127.0.0.0/8"]'}
    with running(tmp_path_factory.mktemp("http"), http=http) as relay:
        yield relay


@pytest.fixture
def web(relay: Relay) -> Web:
    return Web(relay)


# --- /new ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("path", ["/new", "/cgi-bin/newemail.py"])
@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", None),
        (b"anything at all", "text/plain"),
        (b'{"token": ', "application/json"),
        (b"\xff\xfe\0", "application/x-www-form-urlencoded"),
        (b"{}", "multipart/form-data; boundary="),
    ],
    ids=["empty", "text", "broken JSON", "broken form", "broken multipart"],
)
def test_new_takes_any_body_and_gives_credentials_that_work(
    relay: Relay, face: str, path: str, body: bytes, kind: str | None
) -> None:
    fields = {} if kind is None else {"Content_Type": kind}
    answer = Web(relay, face).post(path, body, **fields)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    assert re.fullmatch(r"[a-z0-9]{9}@\[127\.0\.0\.1\]", made["email"])
    assert re.fullmatch(r"[A-Za-z0-9]{22}", made["password"])
    assert "content-length" in answer.headers
    _check_dclogin(relay, made)


def _check_dclogin(relay: Relay, made: dict[str, str]) -> None:
    """Take the link apart as core does, and log in where it points."""
    scheme, _, rest = made["dclogin_url"].partition(":")
    address, _, query = rest.partition("?")
    fields = {key: values[0] for key, values in parse_qs(query, strict_parsing=True).items()}
    assert scheme == "dclogin"
    assert unquote(address) == made["email"]
    assert fields == {
        "p": made["password"],
        "v": "1",
        "ih": "127.0.0.1",
        "ip": str(relay.ports["imaps"]),
        "is": "ssl",
        "sh": "127.0.0.1",
        "sp": str(relay.ports["submissions"]),
        "ss": "ssl",
        "ic": "3",
    }
    wire.imap(relay, made["email"], fields["p"]).logout()


def test_drawing_credentials_stores_nothing(relay: Relay, web: Web) -> None:
    made = web.post("/new").json()
    log_lines = relay.errors.copy()
    assert not any("account_created" in line and "way=new" in line for line in log_lines)
    # Nobody holds the name: its first login sets another password than the one drawn.
    wire.imap(relay, made["email"], "another password").logout()
    with pytest.raises(imaplib.IMAP4.error):
        wire.imap(relay, made["email"], made["password"])


def test_get_new_is_for_scripts_only(web: Web) -> None:
    for fields in ({"Accept": "application/json"}, {"Sec_Fetch_Mode": "cors"}):
        assert "password" in web.get("/new", **fields).json()
    for fields in ({}, {"Accept": "text/html"}, {"Sec_Fetch_Mode": "navigate"}):
        page = web.get("/new", **fields)
        assert page.status == 200
        assert page.headers["content-type"].startswith("text/html")
        assert b"dclogin:" not in page.body


def test_tokens_nobody_issued_are_refused_wherever_they_stand(web: Web) -> None:
    answers = [
        web.post("/new?token=abcdefghijklmnopqrstuv"),
        web.post("/new?t=abcdefghijklmnopqrstuv"),
        web.post("/new", b'{"token": "abcdefghijklmnopqrstuv"}', Content_Type="application/json"),
        web.post(
            "/new",
            b"token=abcdefghijklmnopqrstuv",
            Content_Type="application/x-www-form-urlencoded",
        ),
    ]
    for answer in answers:
        assert answer.status == 403
        assert answer.json() == {
            "reason": "registration token not found",
            "error": "registration token not found",
        }


def test_a_source_gets_five_accounts_at_once(relay: Relay, web: Web) -> None:
    first = [web.post("/new", X_Forwarded_For="192.0.2.99").status for _ in range(5)]
    assert first == [200] * 5
    refused = _rush(relay, ["192.0.2.99"] * RUSH)
    assert refused.json()["reason"] == refused.json()["error"]
    assert int(refused.headers["retry-after"]) > 0
    assert web.post("/new", X_Forwarded_For="192.0.2.98").status == 200
    # One IPv6 customer is one source, whatever the last half of the address.
    _rush(relay, [f"2001:db8::{number:x}" for number in range(RUSH)])


RUSH = 60
"""Requests at once: two are allowed again with each second, however slow the machine is."""


def _rush(relay: Relay, sources: list[str]) -> Answer:
    """Ask for an account from all sources at once; returns an answer that refused it."""
    web, answers = Web(relay, "http"), []

    def ask(source: str) -> None:
        answers.append(web.post("/new", X_Forwarded_For=source))

    in_parallel([partial(ask, source) for source in sources])
    assert {answer.status for answer in answers} <= {200, 429}
    return next(answer for answer in answers if answer.status == 429)


def test_too_much_body_is_refused(web: Web) -> None:
    assert web.post("/new", b"x" * 100_000).status == 413


# --- autoconfig ----------------------------------------------------------------------------------


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("path", [AUTOCONFIG, "/mail/config-v1.1.xml", "/autoconfig"])
def test_every_server_of_the_autoconfig_can_be_logged_in_to(
    relay: Relay, face: str, path: str
) -> None:
    account = newcomer(relay)
    answer = Web(relay, face).get(f"{path}?emailaddress={account[0]}")
    assert answer.headers["content-type"] == "application/xml; charset=utf-8"
    assert answer.headers["cache-control"].endswith("max-age=3600")
    root = ET.fromstring(answer.body)
    assert (root.tag, root.get("version")) == ("clientConfig", "1.1")
    provider = root.find("emailProvider")
    assert provider is not None
    assert provider.get("id") == provider.findtext("domain") == "127.0.0.1"
    servers = [_server(element, account[0]) for element in provider if len(element)]
    ports = relay.ports
    assert [(kind, port, security) for kind, port, security in servers] == [
        ("imap", ports["imaps"], "SSL"),
        ("imap", ports["imap"], "STARTTLS"),
        ("imap", ports["https"], "SSL"),
        ("smtp", ports["submissions"], "SSL"),
        ("smtp", ports["submission"], "STARTTLS"),
        ("smtp", ports["https"], "SSL"),
    ]
    for kind, port, security in servers:
        _log_in(kind, port, security, account, alpn=port == ports["https"])


def _server(element: ET.Element, address: str) -> tuple[str, int, str]:
    assert element.findtext("hostname") == "127.0.0.1"
    assert element.findtext("authentication") == "password-cleartext"
    assert (element.findtext("username") or "").replace("%EMAILADDRESS%", address) == address
    kind, port = element.get("type"), element.findtext("port")
    assert kind is not None
    assert port is not None
    return kind, int(port), element.findtext("socketType") or ""


def _log_in(kind: str, port: int, security: str, account: tuple[str, str], *, alpn: bool) -> None:
    context = wire.tls()
    if alpn:
        context.set_alpn_protocols([kind])
    if kind == "imap":
        client: imaplib.IMAP4
        if security == "SSL":
            client = imaplib.IMAP4_SSL("127.0.0.1", port, ssl_context=context, timeout=60)
        else:
            client = imaplib.IMAP4("127.0.0.1", port, timeout=60)
            client.starttls(context)
        assert client.login(*account)[0] == "OK"
        client.logout()
        return
    sender: smtplib.SMTP
    if security == "SSL":
        sender = smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=60)
    else:
        sender = smtplib.SMTP("127.0.0.1", port, timeout=60)
        sender.starttls(context=context)
    assert sender.login(*account)[0] == 235
    sender.quit()


@pytest.mark.parametrize(
    ("offered", "speaks"),
    [
        (["imap"], b"* OK"),
        (["smtp"], b"220 "),
        (["imap", "http/1.1"], b"* OK"),
        ([], b"HTTP/1.1 200"),
        (["http/1.1"], b"HTTP/1.1 200"),
    ],
    ids=str,
)
def test_the_https_port_speaks_what_was_agreed(
    relay: Relay, offered: list[str], speaks: bytes
) -> None:
    context = wire.tls()
    if offered:
        context.set_alpn_protocols(offered)
    with (
        socket.create_connection(("127.0.0.1", relay.ports["https"]), 60) as raw,
        context.wrap_socket(raw) as client,
    ):
        if speaks.startswith(b"HTTP"):
            client.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        assert client.recv(4096).startswith(speaks)


# --- QR codes ------------------------------------------------------------------------------------


def _read_code(png: bytes) -> str:
    (found,) = zxingcpp.read_barcodes(PIL.Image.open(io.BytesIO(png)))
    return str(found.text)


@pytest.mark.parametrize(
    "data",
    [
        "dcaccount:relay.test",
        "DCACCOUNT:https://relay.test/new",
        "dclogin:abc@[127.0.0.1]?p=x&v=1",
        "https://i.delta.chat/#ABCD",
        "openpgp4fpr:ABCD",
        "ss:abc",
    ],
)
def test_our_kinds_of_link_become_codes_a_reader_reads(web: Web, data: str) -> None:
    query = "".join(f"%{octet:02x}" for octet in data.encode())
    answer = web.get(f"/qr?data={query}")
    assert answer.headers["content-type"] == "image/png"
    assert _read_code(answer.body) == data
    vector = web.get(f"/qr?data={query}&format=svg")
    assert vector.headers["content-type"].startswith("image/svg+xml")
    ET.fromstring(vector.body)


@pytest.mark.parametrize(
    "query", ["", "?data=", "?data=http://evil.example", f"?data=ss:{'x' * 1100}", "?data=%00ss:"]
)
def test_other_texts_become_no_codes(web: Web, query: str) -> None:
    assert web.get(f"/qr{query}").status == 400


# --- health, paths, headers ----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_health_is_for_this_machine_alone(relay: Relay, path: str) -> None:
    for face in FACES:
        web = Web(relay, face)
        assert web.get(path).json()["status"] == "ok"
        assert web.get(path, X_Forwarded_For="192.0.2.1").status == 404
        assert web.get(path, Forwarded="for=192.0.2.1").status == 404
        assert web.ask("HEAD", path).body == b""


def test_health_is_hidden_from_other_addresses(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: only the way out is asked for
        except OSError:
            pytest.skip("no address but loopback")
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("no address but loopback")
    with running(tmp_path / "relay", listen={"http": f'["{address}:0"]'}) as relay:
        web = Web(relay, "http", host=address)
        assert web.get("/livez").status == 404
        assert web.get("/livez", X_Forwarded_For="127.0.0.1").status == 404
        assert web.get("/").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/..%2f..%2fetc/passwd",
        "/static/../../chatmail.toml",
        "//etc/passwd",
        "/%00",
        "/..\\..\\x",
        "/.git/config",
        "/metrics",
        "/new/x",
        "/inv/" + "x" * 65,
    ],
)
def test_unknown_paths_are_404_for_get_and_head(web: Web, path: str) -> None:
    assert web.get(path).status in (400, 404)
    head = web.ask("HEAD", path)
    assert head.status in (400, 404)
    assert head.body == b""


def test_pages_have_the_protecting_headers_and_no_name(web: Web) -> None:
    for path in ("/", "/nothing", "/new", "/invite"):
        page = web.get(path)
        assert page.headers["x-content-type-options"] == "nosniff"
        assert page.headers["referrer-policy"] == "no-referrer"
        policy = page.headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; img-src 'self' data:")
        for name in ("set-cookie", "server", "x-powered-by", "strict-transport-security"):
            assert name not in page.headers
        assert b"<script>" not in page.body
        assert b'src="http' not in page.body


@pytest.mark.parametrize(
    "path", ["/", AUTOCONFIG, "/robots.txt", "/main.css", "/qr?data=ss:x", "/new"]
)
def test_head_is_get_without_a_body(web: Web, path: str) -> None:
    full, head = web.get(path), web.ask("HEAD", path)
    assert head.status == full.status == 200
    assert head.body == b""
    assert head.headers["content-type"] == full.headers["content-type"]
    assert head.headers["content-length"] == full.headers["content-length"]


def test_assets_are_cached_and_text_is_packed(web: Web) -> None:
    plain_page = web.get("/main.css")
    assert plain_page.headers["cache-control"] == "public, max-age=86400"
    again = web.get("/main.css", If_None_Match=plain_page.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    packed = web.get("/main.css", Accept_Encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain_page.body
    assert "content-encoding" not in web.post("/new", Accept_Encoding="gzip").headers
    assert web.get("/robots.txt").body == b"User-agent: *\nDisallow: /\n"


def test_wrong_methods_say_which_are_right(web: Web) -> None:
    answer = web.ask("DELETE", "/new")
    assert answer.status == 405
    assert {"GET", "POST"} <= set(answer.headers["allow"].replace(" ", "").split(","))
    assert answer.json()["reason"] == answer.json()["error"]
    assert web.post("/").status == 405


def test_a_foreign_host_name_changes_no_link(relay: Relay) -> None:
    for face in FACES:
        page = Web(relay, face).get("/", Host="evil.example")
        assert page.status == 200
        assert b"evil.example" not in page.body


def test_closed_registration_is_said_and_stops_the_button(relay: ConfiguredRelay) -> None:
    relay.reload(registration={"open": "false"})
    try:
        refused = Web(relay).post("/new")
        assert refused.status == 403
        assert refused.json() == {
            "reason": "Registration is closed",
            "error": "Registration is closed",
        }
        page = Web(relay).get("/").body
        assert b"<form" not in page
        assert b"closed" in page.lower()
    finally:
        relay.reload(registration={})


# --- a name and a certificate of an authority ----------------------------------------------------


def _authority_signed(folder: Path) -> dict[str, str]:
    """Write a certificate of a CA and its key; returns the [tls] table."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An Authority")])
    names = [x509.DNSName(name) for name in (NAME, f"www.{NAME}", f"mta-sts.{NAME}")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    folder.mkdir()
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "key.pem").chmod(0o600)
    return {
        "mode": '"files"',
        "cert": f'"{folder / "cert.pem"}"',
        "key": f'"{folder / "key.pem"}"',
    }


class NamedRelay(ConfiguredRelay):
    """A relay with a domain instead of an address."""

    @property
    def domain(self) -> str:
        return NAME

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        text = text.replace('ip = "127.0.0.1"', f'domain = "{NAME}"')
        self.config.write_text(text.replace('hostname = "127.0.0.1"', f'hostname = "{NAME}"'))


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NamedRelay]:
    folder = tmp_path_factory.mktemp("named")
    tables = {"tls": _authority_signed(folder / "tls")}
    relay = NamedRelay(folder / "relay", tables=tables)
    relay.start()
    yield relay
    assert relay.stop() == 0, "\n".join(relay.errors[-20:])


def test_plain_http_leads_to_https(named: NamedRelay) -> None:
    web = Web(named, "http")
    base = f"https://{NAME}:{named.ports['https']}"
    for path in ("/", "/info?x=1", "/new", AUTOCONFIG):
        for method in ("GET", "HEAD"):
            answer = web.ask(method, path, Host="evil.example")
            assert answer.status == 301
            assert answer.headers["location"] == base + path
    assert web.get("/livez").status == 200, "never redirected for this machine"
    assert web.get("/.well-known/acme-challenge/unknown").status == 404
    www = Web(named).get("/x?y=z", Host=f"www.{NAME}")
    assert (www.status, www.headers["location"]) == (301, f"{base}/x?y=z")
    sts = Web(named).get("/", Host=f"mta-sts.{NAME}")
    assert sts.status == 404


def test_get_new_opens_the_app(named: NamedRelay) -> None:
    base = f"https://{NAME}:{named.ports['https']}"
    answer = Web(named).get("/new")
    assert answer.status in (301, 302)
    assert answer.headers["location"] == f"dcaccount:{base}/new"
    answer = Web(named).get("/new?token=abc%20d")
    assert answer.headers["location"] == f"dcaccount:{base}/new?token=abc%20d"


def test_links_of_a_verified_relay_never_switch_verification_off(named: NamedRelay) -> None:
    made: dict[str, Any] = Web(named).post("/new").json()
    assert made["email"].endswith(f"@{NAME}")
    assert made["dclogin_url"].endswith("&ic=1")
    page = Web(named).get("/")
    assert b"ic=3" not in page.body
    with RawSmtp(named).secure() as client:
        assert client.command(b"AUTH PLAIN " + plain(made["email"], made["password"])).code == 235


def test_the_certificate_given_is_the_certificate_served(named: NamedRelay, tmp_path: Path) -> None:
    served = {
        ssl.get_server_certificate(("127.0.0.1", named.ports[face]), timeout=60)
        for face in ("https", "imaps", "submissions")
    }
    assert len(served) == 1
    subject = x509.load_pem_x509_certificate(served.pop().encode()).issuer.rfc4514_string()
    assert subject == "CN=An Authority"


def test_answers_are_json_a_strict_reader_reads(web: Web) -> None:
    made = web.post("/new")
    assert made.headers["content-type"] == "application/json"
    assert set(json.loads(made.body)) == {"email", "password", "dclogin_url"}

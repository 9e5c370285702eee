"""Account links and autoconfig XML, all from one fact set: the listeners that are really bound.

Invariant: a link never names a port nobody listens on, and never tells a client to skip
certificate checks when the certificate was issued by a CA.
"""

from __future__ import annotations

import enum
import html
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

import attrs

from chatmail.domain.model.address import is_literal

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
IMPLICIT_TLS_IMAP_PORT: Final = 993
STARTTLS_IMAP_PORT: Final = 143
IMPLICIT_TLS_SMTP_PORT: Final = 465
STARTTLS_SMTP_PORT: Final = 587

LinkSecurity: TypeAlias = Literal["ssl", "starttls", "default"]


class CertificateKind(enum.Enum):
    """Who vouches for the certificate clients see."""

    CA = "ca"
    SELF_SIGNED = "self-signed"


@attrs.frozen(kw_only=True)
class BoundPorts:
    """Public ports with a listener behind them; None: that face is off.

    `alpn_mux`: the https port also speaks IMAP and submission to clients that ask by ALPN.
    """

    imaps: int | None = None
    imap: int | None = None
    submissions: int | None = None
    submission: int | None = None
    https: int | None = None
    http: int | None = None
    alpn_mux: bool = False


@attrs.frozen(kw_only=True)
class RelayFacts:
    """What links and autoconfig are made of.

    `mail_domain` is normalised: a name, `[a.b.c.d]` or `[IPv6:…]`. `hostname` is the TLS name.
    `imap_security`, `smtp_security`: what a login link shall ask for; None: what suits the ports.
    `host_style`: `DCACCOUNT:domain` instead of the URL, for cores from 2.23 on.
    `https_first`: autoconfig lists the https port before the mail ports (hostile networks).
    """

    mail_domain: str
    hostname: str
    certificate: CertificateKind
    ports: BoundPorts
    imap_security: LinkSecurity | None = None
    smtp_security: LinkSecurity | None = None
    host_style: bool = False
    https_first: bool = False

    @property
    def is_literal(self) -> bool:
        """Say whether the mail domain is an address literal."""
        return is_literal(self.mail_domain)

    @property
    def has_ca_certificate(self) -> bool:
        """Say whether clients can verify the certificate."""
        return self.certificate is CertificateKind.CA


@attrs.frozen
class Endpoint:
    """One way to reach a mail face; `security` is how a client starts TLS there."""

    port: int
    security: Literal["ssl", "starttls"]


def bare_host(mail_domain: str) -> str:
    """Return the host behind a mail domain: `[1.2.3.4]` → `1.2.3.4`, `[IPv6:::1]` → `::1`."""
    if not is_literal(mail_domain):
        return mail_domain
    return mail_domain[1:-1].removeprefix("IPv6:")


def mail_host(facts: RelayFacts) -> str:
    """Return the host name a client connects to for mail."""
    if facts.is_literal and not _is_ip(facts.hostname):
        return bare_host(facts.mail_domain)
    return facts.hostname


def imap_endpoints(facts: RelayFacts) -> tuple[Endpoint, ...]:
    """Return the ways to IMAP, best first: implicit TLS, STARTTLS, ALPN on the https port."""
    return _endpoints(facts, facts.ports.imaps, facts.ports.imap)


def submission_endpoints(facts: RelayFacts) -> tuple[Endpoint, ...]:
    """Return the ways to submission, best first."""
    return _endpoints(facts, facts.ports.submissions, facts.ports.submission)


def page_url(facts: RelayFacts) -> str | None:
    """Return the address of the public page without a trailing slash; None: no web face.

    A certificate nobody can verify makes browsers warn, so plain http is named there if bound.
    """
    ports = facts.ports
    if ports.https is not None and (facts.has_ca_certificate or ports.http is None):
        return "https://" + _authority(facts, ports.https, HTTPS_PORT)
    if ports.http is not None:
        return "http://" + _authority(facts, ports.http, HTTP_PORT)
    return None


def secure_url(facts: RelayFacts) -> str | None:
    """Return the https address without a trailing slash; None: https is off."""
    if facts.ports.https is None:
        return None
    return "https://" + _authority(facts, facts.ports.https, HTTPS_PORT)


def dcaccount_link(facts: RelayFacts, token: str | None = None) -> str | None:
    """Return the invite link that needs no credentials; None: this relay needs a login link.

    Delta Chat core fetches `/new` strictly over https, then finds the ports by autoconfig on 443
    or by guessing the standard ones; where neither can work no such link is made. Names with a
    leading `_` are excused from certificate checks.

    Source:  spec federation-web D1.1-D1.4, D5.
    """
    base = secure_url(facts)
    verifiable = facts.has_ca_certificate or facts.mail_domain.startswith("_")
    findable = facts.ports.https == HTTPS_PORT or _has_standard_mail_ports(facts.ports)
    if base is None or facts.is_literal or not (verifiable and findable):
        return None
    if facts.host_style and token is None and facts.has_ca_certificate:
        return f"DCACCOUNT:{facts.mail_domain}"
    # Without `//`: core strips the slashes for display only, then fails (spec D1.2a). The scheme
    # in capitals lets QR codes use their dense alphabet.
    return f"DCACCOUNT:{base}/new" + (f"?token={quote(token, safe='')}" if token else "")


def dclogin_link(facts: RelayFacts, address: str, password: str) -> str:
    """Return the login link for one pair of credentials.

    Hosts and ports are pinned only where core could not find them: any server field switches
    autoconfig off, and with it the fall-back to port 443.

    Source:  spec federation-web D1.5, D1.6, D5, D5.1-D5.3.
    """
    fields = [("p", password), ("v", "1")]
    if _needs_pins(facts):
        fields += _pins("i", facts, imap_endpoints(facts), facts.imap_security)
        fields += _pins("s", facts, submission_endpoints(facts), facts.smtp_security)
    # `ic=3` switches verification off for good in the client: only where none is possible.
    fields.append(("ic", "1" if facts.has_ca_certificate else "3"))
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in fields)
    return f"dclogin:{quote(address, safe='@[]:')}?{query}"


def autoconfig_xml(facts: RelayFacts) -> str:
    """Return the Mozilla client configuration, servers in the order core shall try them.

    Source:  spec federation-web D4.
    """
    domain = html.escape(bare_host(facts.mail_domain))
    host = html.escape(mail_host(facts))
    servers = "".join(
        [_server("incomingServer", "imap", host, way) for way in imap_endpoints(facts)]
        + [_server("outgoingServer", "smtp", host, way) for way in submission_endpoints(facts)]
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<clientConfig version="1.1">\n'
        f'  <emailProvider id="{domain}">\n'
        f"    <domain>{domain}</domain>\n"
        f"    <displayName>{domain}</displayName>\n"
        f"    <displayShortName>{domain}</displayShortName>\n"
        f"{servers}"
        "  </emailProvider>\n"
        "</clientConfig>\n"
    )


def _endpoints(
    facts: RelayFacts, implicit_port: int | None, starttls_port: int | None
) -> tuple[Endpoint, ...]:
    ways = []
    if implicit_port is not None:
        ways.append(Endpoint(implicit_port, "ssl"))
    if starttls_port is not None:
        ways.append(Endpoint(starttls_port, "starttls"))
    if facts.ports.https is not None and facts.ports.alpn_mux:
        ways.insert(0 if facts.https_first else len(ways), Endpoint(facts.ports.https, "ssl"))
    return tuple(ways)


def _has_standard_mail_ports(ports: BoundPorts) -> bool:
    has_imap = ports.imaps == IMPLICIT_TLS_IMAP_PORT or ports.imap == STARTTLS_IMAP_PORT
    has_smtp = ports.submissions == IMPLICIT_TLS_SMTP_PORT or ports.submission == STARTTLS_SMTP_PORT
    return has_imap and has_smtp


def _needs_pins(facts: RelayFacts) -> bool:
    # A literal must be pinned: core would look `[1.2.3.4]` up as a name.
    return (
        facts.is_literal
        or facts.imap_security is not None
        or facts.smtp_security is not None
        or not _has_standard_mail_ports(facts.ports)
    )


def _pins(
    face: str, facts: RelayFacts, ways: tuple[Endpoint, ...], security: LinkSecurity | None
) -> list[tuple[str, str]]:
    if not ways:
        return []
    way = next((way for way in ways if way.security == security), ways[0])
    return [
        (f"{face}h", mail_host(facts)),
        (f"{face}p", str(way.port)),
        # What is not bound cannot be asked for; `default` leaves the choice to core.
        (f"{face}s", "default" if security == "default" else way.security),
    ]


def _server(element: str, kind: str, host: str, way: Endpoint) -> str:
    return (
        f'    <{element} type="{kind}">\n'
        f"      <hostname>{host}</hostname>\n"
        f"      <port>{way.port}</port>\n"
        f"      <socketType>{way.security.upper()}</socketType>\n"
        "      <authentication>password-cleartext</authentication>\n"
        "      <username>%EMAILADDRESS%</username>\n"
        f"    </{element}>\n"
    )


def _authority(facts: RelayFacts, port: int, default_port: int) -> str:
    host = mail_host(facts) if facts.is_literal else facts.mail_domain
    shown = f"[{host}]" if ":" in host else host
    return shown if port == default_port else f"{shown}:{port}"


def _is_ip(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()

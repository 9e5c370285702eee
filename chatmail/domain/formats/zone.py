"""The DNS records a relay needs, and the forms operators paste them in.

Names and targets are normalised domains without a trailing dot; `show_zone` adds it.
Source:  spec federation-web C1; RFC 1035 §5.1, RFC 2782, RFC 5321 §5, RFC 6376 §3.6, RFC 7208,
RFC 7489 §6.3, RFC 8460 §3, RFC 8461 §3.1.
"""

from __future__ import annotations

import enum
import ipaddress
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import quote

import attrs

from chatmail.domain.model.address import is_literal

TTL_S: Final = 3600
MAX_STRING_OCTETS: Final = 255  # RFC 1035 §3.3.14: one string of a TXT record
MX_PREFERENCE: Final = 10

STANDARD_SERVICES: Final = (
    ("submission", 587),
    ("submissions", 465),
    ("imap", 143),
    ("imaps", 993),
)


class RecordType(enum.StrEnum):
    """Types a relay needs, and those that are looked at."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    MX = "MX"
    TXT = "TXT"
    SRV = "SRV"
    CAA = "CAA"
    PTR = "PTR"


class Role(enum.Enum):
    """What a record is for, and so how a found one is compared."""

    ADDRESS = "address"
    ALIAS = "alias"
    MAIL = "mail"
    DKIM = "dkim"
    SPF = "spf"
    DMARC = "dmarc"
    ADSP = "adsp"
    STS = "mta-sts"
    TLS_REPORTS = "tls-reports"
    SERVICE = "service"
    CA = "ca"


@attrs.frozen(kw_only=True)
class ZoneRecord:
    """One record. `data` is its text: an address, a name, `10 host`, a whole TXT in one piece."""

    name: str
    type: RecordType
    data: str
    role: Role
    is_required: bool = True


@attrs.frozen(kw_only=True)
class ZoneFacts:
    """What the records follow from.

    Attributes:
        domains: mail domains, the main one first; literals need no records.
        hostname: the name in MX and TLS; a bare address for a literal relay.
        addresses: public ones, of either family, as text.
        dkim: (name, text) of each public key, of every domain.
        sts_id: the id of our MTA-STS policy; "" when none is served.
        reports_to: URI where others may report trouble with our TLS; "" nowhere.
        acme_account: URL of the account that asks for certificates; "" unknown.
        services: (name, port) of what SRV records announce.
    """

    domains: tuple[str, ...]
    hostname: str
    addresses: tuple[str, ...] = ()
    dkim: tuple[tuple[str, str], ...] = ()
    sts_id: str = ""
    acme_account: str = ""
    reports_to: str = ""
    services: tuple[tuple[str, int], ...] = STANDARD_SERVICES

    @property
    def named_domains(self) -> tuple[str, ...]:
        """The domains that have a place in DNS."""
        return tuple(domain for domain in self.domains if not is_literal(domain))

    @property
    def serves_sts(self) -> bool:
        """Whether MTA-STS is announced: never for a `_` domain, which has no CA's certificate."""
        return bool(self.sts_id) and not self.domains[0].startswith("_")


def needed_records(facts: ZoneFacts) -> tuple[ZoneRecord, ...]:
    """Return the records of all domains, required ones first; none for a literal relay.

    Source:  spec federation-web C1.
    """
    found: list[ZoneRecord] = []
    for domain in facts.named_domains:
        found += _required(domain, facts)
        found += _recommended(domain, facts)
    unique = dict.fromkeys(found)
    return tuple(sorted(unique, key=lambda record: not record.is_required))


def _required(domain: str, facts: ZoneFacts) -> Iterator[ZoneRecord]:
    is_main = domain == facts.domains[0]
    if is_main:
        yield from _addresses(domain, facts)
        if facts.hostname != domain and not _is_address(facts.hostname):
            yield from _addresses(facts.hostname, facts)
    # C1.2: peers post to the MX name, so it has to be the one with the certificate.
    mx = f"{MX_PREFERENCE} {_mail_host(domain, facts)}"
    yield ZoneRecord(name=domain, type=RecordType.MX, data=mx, role=Role.MAIL)
    if is_main and facts.serves_sts:
        yield _text(f"_mta-sts.{domain}", f"v=STSv1; id={facts.sts_id}", Role.STS)
        yield _alias(f"mta-sts.{domain}", domain)
    if is_main and not domain.startswith("_"):
        yield _alias(f"www.{domain}", domain)
    suffix = f"._domainkey.{domain}"
    for name, text in facts.dkim:
        if name.endswith(suffix) and "." not in name.removesuffix(suffix):
            yield _text(name, text, Role.DKIM)


def _recommended(domain: str, facts: ZoneFacts) -> Iterator[ZoneRecord]:
    is_main = domain == facts.domains[0]
    host = _mail_host(domain, facts)
    if not is_main:
        for record in _addresses(domain, facts):
            yield attrs.evolve(record, is_required=False)
    spf = "v=spf1 a ~all" if host == domain else "v=spf1 a mx ~all"
    policy = "v=DMARC1;p=reject;adkim=s;aspf=s"
    yield _text(domain, spf, Role.SPF, is_required=False)
    yield _text(f"_dmarc.{domain}", policy, Role.DMARC, is_required=False)
    if facts.acme_account:
        allowed = f'0 issue "letsencrypt.org;accounturi={facts.acme_account}"'
        yield ZoneRecord(
            name=domain, type=RecordType.CAA, data=allowed, role=Role.CA, is_required=False
        )
    yield _text(f"_adsp._domainkey.{domain}", "dkim=discardable", Role.ADSP, is_required=False)
    if is_main and facts.serves_sts and facts.reports_to:
        # RFC 8460 §3. Commas and semicolons would end the URI.
        text = f"v=TLSRPTv1; rua={quote(facts.reports_to, safe=':@/.+=_-%')}"
        yield _text(f"_smtp._tls.{domain}", text, Role.TLS_REPORTS, is_required=False)
    for service, port in facts.services:
        yield ZoneRecord(
            name=f"_{service}._tcp.{domain}",
            type=RecordType.SRV,
            data=f"0 1 {port} {host}",
            role=Role.SERVICE,
            is_required=False,
        )
    # Delta Chat core asks this host first (spec federation-web D1.4).
    yield _alias(f"autoconfig.{domain}", host, is_required=False)


def _mail_host(domain: str, facts: ZoneFacts) -> str:
    """The MX target: H; the domain itself where H is no name."""
    return domain if _is_address(facts.hostname) else facts.hostname


def _addresses(name: str, facts: ZoneFacts) -> Iterator[ZoneRecord]:
    for text in facts.addresses:
        type = RecordType.A if ipaddress.ip_address(text).version == 4 else RecordType.AAAA
        yield ZoneRecord(name=name, type=type, data=text, role=Role.ADDRESS)


def _text(name: str, text: str, role: Role, *, is_required: bool = True) -> ZoneRecord:
    return ZoneRecord(name=name, type=RecordType.TXT, data=text, role=role, is_required=is_required)


def _alias(name: str, target: str, *, is_required: bool = True) -> ZoneRecord:
    return ZoneRecord(
        name=name, type=RecordType.CNAME, data=target, role=Role.ALIAS, is_required=is_required
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


# --- forms ----------------------------------------------------------------------------------------


class ZoneForm(enum.StrEnum):
    """How records are written."""

    BIND = "bind"
    JSON = "json"
    CLOUDFLARE = "cloudflare"
    SHELL = "deploy-shell"


def show_zone(records: Sequence[ZoneRecord], form: ZoneForm = ZoneForm.BIND) -> list[str]:
    """Return the lines of a zone file, a JSON document, or a shell script."""
    match form:
        case ZoneForm.BIND:
            return list(_bind(records))
        case ZoneForm.JSON:
            return [json.dumps([described(record) for record in records], indent=2)]
        case ZoneForm.CLOUDFLARE:
            return [_cloudflare(record) for record in records]
    return list(_shell(records))


def described(record: ZoneRecord) -> dict[str, object]:
    """Return a record for programs; `strings` are the pieces of a TXT record."""
    shown: dict[str, object] = {
        "name": record.name,
        "type": str(record.type),
        "ttl": TTL_S,
        "value": _absolute(record) if record.type is not RecordType.TXT else record.data,
        "required": record.is_required,
    }
    if record.type is RecordType.TXT:
        shown["strings"] = pieces(record.data)
    return shown


def record_line(record: ZoneRecord, ttl_s: int = TTL_S) -> str:
    """Return one record as a line of a zone file: `name TTL IN TYPE rdata`."""
    return f"{record.name}. {ttl_s} IN {record.type} {rdata(record)}"


def rdata(record: ZoneRecord) -> str:
    """Return the data as a zone file has it: absolute names, TXT in quoted pieces."""
    return quoted(record.data) if record.type is RecordType.TXT else _absolute(record)


def quoted(text: str) -> str:
    """Return a TXT text as quoted strings of at most 255 octets (RFC 1035 §5.1)."""
    escaped = (piece.replace("\\", "\\\\").replace('"', '\\"') for piece in pieces(text))
    return " ".join(f'"{piece}"' for piece in escaped)


def pieces(text: str) -> list[str]:
    """Cut an ASCII text into the strings of a TXT record."""
    starts = range(0, max(1, len(text)), MAX_STRING_OCTETS)
    return [text[start : start + MAX_STRING_OCTETS] for start in starts]


def _absolute(record: ZoneRecord) -> str:
    has_target = record.type in (RecordType.MX, RecordType.CNAME, RecordType.SRV)
    return f"{record.data}." if has_target else record.data


def _bind(records: Iterable[ZoneRecord]) -> Iterator[str]:
    section: bool | None = None
    for record in records:
        if record.is_required != section:
            section = record.is_required
            yield "; Required" if section else "; Recommended"
        yield record_line(record)
        if record.type is RecordType.TXT and len(record.data) > MAX_STRING_OCTETS:
            yield f"; the same in one piece, for web forms: {record.data}"


def _cloudflare(record: ZoneRecord) -> str:
    # Cloudflare's import reads zone files; 1 stands for its own TTL. Its web proxy knows no mail.
    line = record_line(record, 1)
    may_be_proxied = record.type in (RecordType.A, RecordType.AAAA, RecordType.CNAME)
    return f"{line} ; cf_tags=cf-proxied:false" if may_be_proxied else line


def _shell(records: Iterable[ZoneRecord]) -> Iterator[str]:
    yield "#!/bin/sh"
    yield "# Puts the records in place by dynamic update (RFC 2136), e.g.: sh zone.sh -k my.key"
    yield "nsupdate \"$@\" <<'END'"
    replaced: set[tuple[str, RecordType]] = set()
    for record in records:
        # Other TXT and CAA records of the name belong to somebody else.
        is_ours_alone = record.type not in (RecordType.TXT, RecordType.CAA)
        if is_ours_alone and (record.name, record.type) not in replaced:
            replaced.add((record.name, record.type))
            yield f"update delete {record.name}. {record.type}"
        yield f"update add {record.name}. {TTL_S} {record.type} {rdata(record)}"
    yield "send"
    yield "END"

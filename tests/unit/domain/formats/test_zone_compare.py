"""Found records against needed ones."""

from __future__ import annotations

import pytest

from chatmail.domain.formats.zone import RecordType, Role, ZoneFacts, ZoneRecord
from chatmail.domain.formats.zone_compare import (
    Standing,
    compare,
    family,
    is_address_set_ours,
    tags,
)

FACTS = ZoneFacts(
    domains=("chat.example",), hostname="mx.chat.example", addresses=("192.0.2.1", "2001:db8::1")
)
OK, MISSING, DIFFERS = Standing.OK, Standing.MISSING, Standing.DIFFERS
TXT = RecordType.TXT
KEY = "v=DKIM1;k=rsa;p=MIIB;s=email;t=s"
DMARC = "v=DMARC1;p=reject;adkim=s;aspf=s"
SPF = "v=spf1 a mx ~all"
STS = "v=STSv1; id=202601020304"
REPORTS = "v=TLSRPTv1; rua=mailto:a@chat.example"
CAA = '0 issue "letsencrypt.org;accounturi=https://ca.example/1"'


@pytest.mark.parametrize(
    ("role", "type", "wanted", "found", "standing"),
    [
        (Role.ADDRESS, RecordType.A, "192.0.2.1", ["192.0.2.1"], OK),
        (Role.ADDRESS, RecordType.A, "192.0.2.1", ["192.0.2.9", "192.0.2.1"], OK),
        (Role.ADDRESS, RecordType.A, "192.0.2.1", ["192.0.2.9"], DIFFERS),
        (Role.ADDRESS, RecordType.A, "192.0.2.1", [], MISSING),
        (Role.ADDRESS, RecordType.AAAA, "2001:db8::1", ["2001:0db8:0:0::1"], OK),
        (Role.ADDRESS, RecordType.A, "192.0.2.1", ["nonsense"], DIFFERS),
        (Role.ALIAS, RecordType.CNAME, "chat.example", ["chat.example"], OK),
        (Role.ALIAS, RecordType.CNAME, "chat.example", ["mx.chat.example"], OK),
        (Role.ALIAS, RecordType.CNAME, "chat.example", ["pages.example"], DIFFERS),
        (Role.MAIL, RecordType.MX, "10 mx.chat.example", ["5 mx.chat.example"], OK),
        (Role.MAIL, RecordType.MX, "10 mx.chat.example", ["10 old.example"], DIFFERS),
        (
            Role.MAIL,
            RecordType.MX,
            "10 mx.chat.example",
            ["10 mx.chat.example", "20 backup.example"],
            DIFFERS,
        ),
        (Role.SERVICE, RecordType.SRV, "0 1 993 mx.chat.example", ["5 9 993 mx.chat.example"], OK),
        (Role.SERVICE, RecordType.SRV, "0 1 993 mx.chat.example", ["0 1 994 mx.x"], DIFFERS),
        (Role.DKIM, TXT, KEY, ["v=DKIM1; k=rsa; p=MIIB"], OK),
        (Role.DKIM, TXT, KEY, ["p=MI IB"], OK),
        (Role.DKIM, TXT, KEY, ["v=DKIM1; p=OTHER"], DIFFERS),
        (Role.DKIM, TXT, KEY, ["v=DKIM1; k=ed25519; p=MIIB"], DIFFERS),
        (Role.DKIM, TXT, KEY, ["v=DKIM1; p="], DIFFERS),
        (Role.DKIM, TXT, KEY, [], MISSING),
        (Role.DMARC, TXT, DMARC, ["v=DMARC1 ; p = reject ; adkim=s ; aspf=s ; sp=none"], OK),
        (Role.DMARC, TXT, DMARC, ["v=DMARC1; p=reject"], DIFFERS),
        (Role.DMARC, TXT, DMARC, ["v=DMARC1; p=quarantine; adkim=s; aspf=s"], DIFFERS),
        (Role.DMARC, TXT, DMARC, ["v=DMARC1; p=reject; adkim=s; aspf=s; pct=50"], DIFFERS),
        (Role.DMARC, TXT, "v=DMARC1;p=none", ["v=DMARC1;p=reject"], OK),
        (Role.DMARC, TXT, DMARC, [DMARC, DMARC], DIFFERS),
        (Role.DMARC, TXT, DMARC, ["something else"], MISSING),
        (Role.STS, TXT, STS, ["v=STSv1;id=202601020304;"], OK),
        (Role.STS, TXT, STS, ["v=STSv1; id=1"], DIFFERS),
        (Role.STS, TXT, STS, ["v=TLSRPTv1"], MISSING),
        (Role.TLS_REPORTS, TXT, REPORTS, ["v=TLSRPTv1; rua=https://else.test"], OK),
        (Role.TLS_REPORTS, TXT, REPORTS, ["v=TLSRPTv1"], DIFFERS),
        (Role.TLS_REPORTS, TXT, REPORTS, ["v=STSv1; id=1"], MISSING),
        (Role.ADSP, TXT, "dkim=discardable", ["dkim = discardable"], OK),
        (Role.ADSP, TXT, "dkim=discardable", ["dkim=all"], DIFFERS),
        (Role.CA, RecordType.CAA, CAA, ['0 issue "letsencrypt.org"'], OK),
        (Role.CA, RecordType.CAA, CAA, ['0 issue "other.example"'], DIFFERS),
        (Role.CA, RecordType.CAA, CAA, ['0 iodef "mailto:x@y.example"'], MISSING),
        (Role.SPF, TXT, SPF, ["google-site-verification=1", "v=spf1 a mx ~all"], OK),
        (Role.SPF, TXT, SPF, ["v=spf1 a mx ~all", "v=spf1 -all"], DIFFERS),
        (Role.SPF, TXT, SPF, ["v=spf1 -all"], DIFFERS),
        (Role.SPF, TXT, SPF, ["v=spf10 a"], MISSING),
    ],
)
def test_records_are_compared_by_meaning(
    role: Role, type: RecordType, wanted: str, found: list[str], standing: Standing
) -> None:
    record = ZoneRecord(name="chat.example", type=type, data=wanted, role=role)
    assert compare(record, found, FACTS) is standing


def test_included_policies_count() -> None:
    record = ZoneRecord(name="chat.example", type=TXT, data=SPF, role=Role.SPF)
    found = ["v=spf1 include:spf.example -all"]
    assert compare(record, found, FACTS) is DIFFERS
    included = {"spf.example": "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"}
    assert compare(record, found, FACTS, included) is OK


def test_tags_are_read_with_any_spaces_and_the_first_one_counts() -> None:
    assert tags(" A = 1 ;b=2;; c ;a=3") == {"a": "1", "b": "2"}


def test_a_name_without_alias_may_lead_here_by_its_addresses() -> None:
    assert is_address_set_ours(["192.0.2.1"], FACTS)
    assert not is_address_set_ours(["192.0.2.1", "192.0.2.9"], FACTS)
    assert not is_address_set_ours([], FACTS)
    assert family("::1") is RecordType.AAAA
    assert family("127.0.0.1") is RecordType.A

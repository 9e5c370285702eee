"""The records a relay needs, and the forms they are written in."""

from __future__ import annotations

import json

import dns.rdatatype
import dns.zone
import pytest

from chatmail.domain.formats.zone import (
    RecordType,
    Role,
    ZoneFacts,
    ZoneForm,
    ZoneRecord,
    described,
    needed_records,
    quoted,
    record_line,
    show_zone,
)

KEY = "v=DKIM1;k=rsa;p=" + "A" * 392 + ";s=email;t=s"


def facts(**changes: object) -> ZoneFacts:
    given: dict[str, object] = {
        "domains": ("chat.example",),
        "hostname": "chat.example",
        "addresses": ("192.0.2.1", "2001:db8::1"),
        "dkim": (("opendkim._domainkey.chat.example", KEY),),
        "sts_id": "202601020304",
    }
    return ZoneFacts(**{**given, **changes})  # type: ignore[arg-type]


def lines(found: ZoneFacts, *, required: bool) -> list[str]:
    return [
        record_line(record) for record in needed_records(found) if record.is_required is required
    ]


def test_a_name_needs_what_peers_and_clients_ask_for() -> None:
    assert lines(facts(), required=True) == [
        "chat.example. 3600 IN A 192.0.2.1",
        "chat.example. 3600 IN AAAA 2001:db8::1",
        "chat.example. 3600 IN MX 10 chat.example.",
        '_mta-sts.chat.example. 3600 IN TXT "v=STSv1; id=202601020304"',
        "mta-sts.chat.example. 3600 IN CNAME chat.example.",
        "www.chat.example. 3600 IN CNAME chat.example.",
        f"opendkim._domainkey.chat.example. 3600 IN TXT {quoted(KEY)}",
    ]
    assert lines(facts(acme_account="https://ca.example/acct/1"), required=False) == [
        'chat.example. 3600 IN TXT "v=spf1 a ~all"',
        '_dmarc.chat.example. 3600 IN TXT "v=DMARC1;p=reject;adkim=s;aspf=s"',
        'chat.example. 3600 IN CAA 0 issue "letsencrypt.org;accounturi=https://ca.example/acct/1"',
        '_adsp._domainkey.chat.example. 3600 IN TXT "dkim=discardable"',
        "_submission._tcp.chat.example. 3600 IN SRV 0 1 587 chat.example.",
        "_submissions._tcp.chat.example. 3600 IN SRV 0 1 465 chat.example.",
        "_imap._tcp.chat.example. 3600 IN SRV 0 1 143 chat.example.",
        "_imaps._tcp.chat.example. 3600 IN SRV 0 1 993 chat.example.",
        "autoconfig.chat.example. 3600 IN CNAME chat.example.",
    ]


def test_without_a_known_account_there_is_no_caa_record() -> None:
    assert all(record.type is not RecordType.CAA for record in needed_records(facts()))


def test_trouble_with_tls_may_be_reported_to_the_operator() -> None:
    wanted = '_smtp._tls.chat.example. 3600 IN TXT "v=TLSRPTv1; rua=mailto:a+b%3Bc@chat.example"'
    assert wanted in lines(facts(reports_to="mailto:a+b;c@chat.example"), required=False)
    assert not [one for one in lines(facts(), required=False) if "_tls" in one]
    alone = facts(reports_to="mailto:a@chat.example", sts_id="")
    assert not [one for one in lines(alone, required=False) if "_tls" in one]


def test_another_host_name_gets_addresses_the_mx_and_a_wider_spf() -> None:
    found = facts(hostname="mx.chat.example")
    required = lines(found, required=True)
    assert "mx.chat.example. 3600 IN A 192.0.2.1" in required
    assert "mx.chat.example. 3600 IN AAAA 2001:db8::1" in required
    assert "chat.example. 3600 IN MX 10 mx.chat.example." in required
    recommended = lines(found, required=False)
    assert 'chat.example. 3600 IN TXT "v=spf1 a mx ~all"' in recommended
    assert "_imaps._tcp.chat.example. 3600 IN SRV 0 1 993 mx.chat.example." in recommended


@pytest.mark.parametrize("domain", ["[192.0.2.1]", "[IPv6:2001:db8::1]"])
def test_a_literal_needs_no_records(domain: str) -> None:
    assert needed_records(facts(domains=(domain,), hostname="192.0.2.1")) == ()


def test_mta_sts_is_left_out_where_no_ca_vouches() -> None:
    for found in (
        facts(sts_id=""),
        facts(domains=("_test.example",), hostname="_test.example", dkim=()),
    ):
        assert all("mta-sts" not in record.name for record in needed_records(found))


def test_an_extra_domain_points_its_mail_at_the_host_and_has_its_own_key() -> None:
    found = facts(
        domains=("chat.example", "more.example"),
        dkim=(
            ("s._domainkey.chat.example", "v=DKIM1;p=AA"),
            ("s._domainkey.more.example", "v=DKIM1;p=BB"),
        ),
    )
    required = lines(found, required=True)
    assert "more.example. 3600 IN MX 10 chat.example." in required
    assert 's._domainkey.more.example. 3600 IN TXT "v=DKIM1;p=BB"' in required
    assert all(not line.startswith(("mta-sts.more", "www.more")) for line in required)
    recommended = lines(found, required=False)
    assert "more.example. 3600 IN A 192.0.2.1" in recommended
    assert 'more.example. 3600 IN TXT "v=spf1 a mx ~all"' in recommended
    assert "autoconfig.more.example. 3600 IN CNAME chat.example." in recommended


def test_a_zone_file_is_read_by_a_zone_file_reader() -> None:
    records = needed_records(facts(acme_account="https://ca.example/1"))
    text = show_zone(records, ZoneForm.BIND)
    assert text[0] == "; Required"
    assert "; Recommended" in text
    assert f"; the same in one piece, for web forms: {KEY}" in text
    soa = "chat.example. 60 IN SOA a. b. 1 2 3 4 5\nchat.example. 60 IN NS ns.other.example.\n"
    zone = dns.zone.from_text(soa + "\n".join(text) + "\n", "chat.example.")
    key = zone.find_rdataset("opendkim._domainkey", dns.rdatatype.TXT)[0]
    assert b"".join(key.strings).decode() == KEY
    assert all(len(piece) <= 255 for piece in key.strings)
    assert str(zone.find_rdataset("@", dns.rdatatype.MX)[0].exchange) == "@"


def test_quoting_survives_odd_characters() -> None:
    assert quoted('a "b" \\c') == '"a \\"b\\" \\\\c"'
    assert quoted("") == '""'


def test_json_holds_both_forms_of_a_long_text() -> None:
    document = json.loads("\n".join(show_zone(needed_records(facts()), ZoneForm.JSON)))
    key = next(one for one in document if one["name"].startswith("opendkim"))
    assert key["value"] == KEY
    assert "".join(key["strings"]) == KEY
    mx = next(one for one in document if one["type"] == "MX")
    assert mx == {
        "name": "chat.example",
        "type": "MX",
        "ttl": 3600,
        "value": "10 chat.example.",
        "required": True,
    }
    assert "strings" not in described(needed_records(facts())[0])


def test_cloudflare_is_told_not_to_proxy() -> None:
    text = show_zone(needed_records(facts()), ZoneForm.CLOUDFLARE)
    assert "chat.example. 1 IN A 192.0.2.1 ; cf_tags=cf-proxied:false" in text
    assert "chat.example. 1 IN MX 10 chat.example." in text


def test_the_shell_form_replaces_what_is_ours_alone() -> None:
    text = show_zone(needed_records(facts()), ZoneForm.SHELL)
    assert text[0] == "#!/bin/sh"
    assert text.count("update delete chat.example. A") == 1
    assert "update add chat.example. 3600 A 192.0.2.1" in text
    assert not any(line.startswith("update delete") and "TXT" in line for line in text)
    assert text[-2:] == ["send", "END"]


def test_a_record_is_needed_once() -> None:
    record = ZoneRecord(name="a.example", type=RecordType.A, data="192.0.2.1", role=Role.ADDRESS)
    assert record_line(record, 60) == "a.example. 60 IN A 192.0.2.1"
    found = needed_records(facts(domains=("chat.example", "chat.example")))
    assert len(found) == len({(one.name, one.type, one.data, one.is_required) for one in found})


def test_a_host_that_is_an_address_leaves_the_mail_to_the_domain() -> None:
    required = lines(facts(hostname="192.0.2.1"), required=True)
    assert "chat.example. 3600 IN MX 10 chat.example." in required
    assert all("192.0.2.1." not in line for line in required)

"""What strangers may bring: port 25 and /mxdeliv give the same answers (federation-web.md B)."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import pytest

from tests.builders import delivery_report, make_message, securejoin_request
from tests.e2e.dns_zone import Trouble
from tests.e2e.federation import FederatedRelay, Network, Signer
from tests.e2e.federation_fixtures import net as net
from tests.e2e.federation_fixtures import relay as relay
from tests.e2e.relay import wait_until
from tests.e2e.strangers import CAROL, PEER, both_doors, expect, fresh, hand
from tests.e2e.strangers import bob as bob
from tests.e2e.strangers import signer as signer
from tests.e2e.users import Report, User, by_https, by_smtp, parse

# --- what is taken -----------------------------------------------------------------------------


@both_doors
def test_signed_mail_arrives_without_its_traces(
    door: object, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    fields = [("Received", "from [192.0.2.1] by mx"), ("Authentication-Results", "mx; none")]
    message_id, octets = fresh(fields=fields)
    expect(hand(door, relay, CAROL, [bob.address], signer.sign(octets)), "250 2.0.0")
    head, _, body = bob.await_message(message_id).partition(b"\r\n\r\n")
    assert body == octets.partition(b"\r\n\r\n")[2]
    for name in (b"received:", b"dkim-signature:", b"authentication-results:"):
        assert name not in head.lower()


@both_doors
@pytest.mark.parametrize("canonicalize", ["relaxed/simple", "simple/simple", "relaxed/relaxed"])
def test_every_canonicalisation_is_understood(
    door: object, relay: FederatedRelay, signer: Signer, bob: User, canonicalize: str
) -> None:
    _, octets = fresh()
    signed = signer.sign(octets, canonicalize=canonicalize)
    expect(hand(door, relay, CAROL, [bob.address], signed), "250 2.0.0")


@both_doors
def test_a_join_request_is_taken_in_clear(
    door: object, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    octets = signer.sign(securejoin_request(sender=CAROL))
    expect(hand(door, relay, CAROL, [bob.address], octets), "250 2.0.0")
    wait_until("it arrived", lambda: len(bob.inbox()) == 1)


@both_doors
def test_the_second_signature_may_be_the_one_that_counts(
    door: object, net: Network, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    other = net.signer("list.test")
    _, octets = fresh()
    signed = other.sign(signer.sign(octets))
    expect(hand(door, relay, "bounces@list.test", [bob.address], signed), "250 2.0.0")
    wait_until("it arrived", lambda: len(bob.inbox()) == 1)


@both_doors
def test_a_literal_needs_no_signature(door: object, relay: FederatedRelay, bob: User) -> None:
    """H25, B5.6."""
    sender = "carol@[192.0.2.9]"
    _, octets = fresh(sender)
    expect(hand(door, relay, sender, [bob.address], octets), "250 2.0.0")
    wait_until("it arrived", lambda: len(bob.inbox()) == 1)


@both_doors
def test_a_signed_bounce_arrives_reduced(
    door: object, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """H28, T-10: with the null sender; the original's body is gone."""
    report = signer.sign(delivery_report(sender=f"MAILER-DAEMON@{PEER}"))
    expect(hand(door, relay, "", [bob.address], report), "250 2.0.0")
    wait_until("it arrived", lambda: len(bob.inbox()) == 1)
    [octets] = bob.inbox()
    assert b"BEGIN PGP MESSAGE" not in octets
    assert Report(parse(octets)).about


# --- what is not -------------------------------------------------------------------------------


@both_doors
def test_unsigned_mail_is_refused(door: object, relay: FederatedRelay, bob: User) -> None:
    """H23."""
    sender = "fake@example.org"
    _, octets = fresh(sender)
    expect(hand(door, relay, sender, [bob.address], octets), "554 5.7.1 No DKIM signature found")
    assert bob.inbox() == []


TAGS: dict[str, dict[str, Any]] = {
    "l=0": {"l": "0", "body": b""},
    "l=10": {"l": "10", "body": b"\r\n--18c7a0"},
    "no from": {"h": "to:subject:date:message-id"},
    "expired": {"t": "1000000000", "x": "1000003600"},
    "foreign i": {"i": "@elsewhere.test"},
    "i below a strict key": {"i": f"@sub.{PEER}"},
    "sha1": {"a": "rsa-sha1"},
}
KINDS = [
    "subdomain",
    "garbage",
    "second_from",
    "no_key",
    "fifty",
    "body",
    "subject",
    "revoked",
    "weak",
    "old",
]
NONE, INVALID = "554 5.7.1 No DKIM signature found", "554 5.7.1 No valid DKIM signature found"


@both_doors
@pytest.mark.parametrize("kind", [*KINDS, *TAGS])
def test_a_signature_that_does_not_hold_is_refused(
    door: object, net: Network, relay: FederatedRelay, signer: Signer, bob: User, kind: str
) -> None:
    """H24, B5.1, B5.2."""
    octets, expected = broken(net, signer, kind)
    expect(hand(door, relay, CAROL, [bob.address], octets), expected)
    assert bob.inbox() == []


def broken(net: Network, signer: Signer, kind: str) -> tuple[bytes, str]:
    """A message with a signature that is not worth it, and what has to be said."""
    _, octets = fresh()
    match kind:
        case "subdomain":
            return net.signer(f"sub.{PEER}").sign(octets), NONE
        case "garbage":
            return b"DKIM-Signature: v=1; d=peer.test; ;;=;\xc3\x28 b=\r\n" + octets, "554 5."
        case "second_from":
            return b"From: mallory@example.org\r\n" + signer.sign(octets), "554 5.6.0"
        case "no_key":
            return Signer(PEER, "missing").sign(octets), INVALID
        case "fifty":
            field = (
                b"DKIM-Signature: v=1; a=rsa-sha256; d=peer.test; s=x%d; h=from; bh=AA; b=AA\r\n"
            )
            return b"".join(field % at for at in range(50)) + octets, INVALID
        case "body":
            return signer.sign(octets) + b"\r\n \r\n", INVALID
        case "subject":
            changed = signer.sign(octets).replace(b"\r\nSubject: [...]", b"\r\nSubject: [....]")
            return changed, INVALID
        case "revoked" | "weak" | "old":
            return _with_key(net, kind, octets), INVALID
    return signer.sign_with(octets, **TAGS[kind]), INVALID


def _with_key(net: Network, kind: str, octets: bytes) -> bytes:
    signer = Signer(PEER, kind, pem=weak_key() if kind == "weak" else b"")
    records = {"revoked": "v=DKIM1;k=rsa;p=", "weak": signer.record, "old": "v=DKIM0;k=none"}
    net.dns.zone.put_txt(signer.name, records[kind])
    return signer.sign(octets)


def weak_key() -> bytes:
    """An RSA key of 768 bits."""
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:768"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_the_hand_made_signatures_would_hold(
    relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """What is refused above is refused for its tags, not for a mistake in the making."""
    later = str(int(time.time()) + 3600)
    for tags in ({}, {"x": later}, {"i": f"@{PEER}"}):
        _, octets = fresh()
        signed = signer.sign_with(octets, **tags)
        expect(by_smtp(relay, CAROL, [bob.address], signed), "250 2.0.0")


@both_doors
def test_our_own_name_is_refused_signed_or_not(
    door: object, net: Network, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """H25: in the header or in the envelope, whatever has signed it."""
    _, octets = fresh("mallory@a.test")
    for message in (octets, signer.sign(octets)):
        expect(hand(door, relay, CAROL, [bob.address], message), "550 5.7.1 Sender domain is local")
    _, octets = fresh()
    said = hand(door, relay, "mallory@a.test", [bob.address], signer.sign(octets))
    expect(said, "550 5.7.1 Sender domain is local")
    assert bob.inbox() == []


@both_doors
def test_cleartext_is_refused_before_anything_costs(
    door: object, net: Network, relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    """H26: no DNS query is made, and known and unknown names hear the same."""
    octets = signer.sign(make_message(sender=CAROL, encrypted=False))
    net.dns.zone.forget_queries()
    said = {
        hand(door, relay, CAROL, [name], octets)
        for name in (bob.address, "nobody123@a.test", "admin@a.test")
    }
    assert len(said) == 1
    expect(said.pop(), "523 5.7.1 Encryption Needed: Invalid Unencrypted Mail")
    assert not net.dns.zone.asked(signer.name)


@both_doors
@pytest.mark.parametrize(
    ("sender", "octets", "expected"),
    [
        pytest.param(
            CAROL, make_message(sender=CAROL, without=["From"]), "500 5.7.1", id="no-from"
        ),
        pytest.param(
            CAROL,
            make_message(sender=CAROL, fields=[("From", f"{CAROL}, x@y.test")]),
            "500 5.7.1",
            id="two-authors",
        ),
        pytest.param(
            CAROL,
            make_message(sender=CAROL, fields=[("Date", "1"), ("date", "2")]),
            "554 5.6.0",
            id="two-dates",
        ),
        pytest.param(
            CAROL,
            make_message(sender=CAROL, fields=[("Received", "from a by b")] * 51),
            "554 5.4.6",
            id="loop",
        ),
        pytest.param(
            CAROL,
            make_message(sender=CAROL, fields=[("X-Long", "x" * 70000)]),
            "554 5.6.0",
            id="long",
        ),
        pytest.param("", delivery_report(sender=f"MAILER-DAEMON@{PEER}"), NONE, id="fake-bounce"),
    ],
)
def test_malformed_or_forged_mail_is_refused(
    door: object, relay: FederatedRelay, bob: User, sender: str, octets: bytes, expected: str
) -> None:
    expect(hand(door, relay, sender, [bob.address], octets), expected)
    assert bob.inbox() == []


@both_doors
def test_nothing_is_relayed(
    door: object, relay: FederatedRelay, signer: Signer, net: Network
) -> None:
    """H29."""
    _, octets = fresh()
    said = hand(door, relay, CAROL, ["dave@elsewhere.test"], signer.sign(octets))
    expect(said, "550 5.7.1 Relaying denied")
    assert said.status in (0, 404)
    assert not net.dns.zone.asked("elsewhere.test")


def test_of_mixed_recipients_the_local_ones_are_served(
    relay: FederatedRelay, signer: Signer, bob: User
) -> None:
    message_id, octets = fresh()
    said = by_https(relay, CAROL, ["dave@elsewhere.test", bob.address], signer.sign(octets))
    expect(said, "250 2.0.0")
    bob.await_message(message_id)


@both_doors
def test_a_denied_domain_is_refused(
    door: object, net: Network, relay: FederatedRelay, bob: User
) -> None:
    domain = f"denied-{'web' if door is by_https else 'mail'}.test"
    _, octets = fresh(f"x@{domain}")
    signed = net.signer(domain).sign(octets)
    relay.run("federation", "policy", "block", domain)
    # From the envelope, and from the header alone.
    for sender in (f"x@{domain}", CAROL):
        expect(hand(door, relay, sender, [bob.address], signed), "550 5.7.1 Policy Rejection")
    relay.run("federation", "policy", "remove", domain)
    expect(hand(door, relay, f"x@{domain}", [bob.address], signed), "250 2.0.0")


@both_doors
def test_a_key_that_cannot_be_had_is_a_reason_to_wait(
    door: object, net: Network, relay: FederatedRelay, bob: User
) -> None:
    """H33."""
    domain = f"wait-{'web' if door is by_https else 'mail'}.test"
    signer = net.signer(domain)
    message_id, octets = fresh(f"x@{domain}")
    with net.dns.zone.trouble(Trouble.SERVFAIL, signer.name):
        said = hand(door, relay, f"x@{domain}", [bob.address], signer.sign(octets))
        expect(said, "451 4.7.5 DKIM key not available, try again later")
    wait_until(
        "the failure is forgotten",
        lambda: hand(door, relay, f"x@{domain}", [bob.address], signer.sign(octets)).code == 250,
        70,
    )
    bob.await_message(message_id)

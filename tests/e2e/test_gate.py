"""The adversarial matrix over real sockets: submission, port 25 and APPEND.

The cases are the unit tests' table, so a case is written once. Each is one message refused with
the reply of the specification's table (policy 1.11), after which the session still works and no
mailbox holds anything.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builders import (
    ALICE,
    BOUNDARY,
    CONTROL_PART,
    armor,
    delivery_report,
    encrypted_type,
    make_message,
    multipart,
    noise,
    old_packet,
    packet,
    packets,
    part,
    payload_part,
    pgpy_encrypted,
    pkesk,
    pkesk_body,
    report_body,
    securejoin_request,
    seipd,
    skesk4_body,
    wrap,
)
from tests.e2e import mailbox, wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.mailbox import count, messages, newcomer
from tests.e2e.rawsmtp import RawSmtp, Reply, submitter
from tests.e2e.relay import Relay
from tests.unit.domain.policy.test_encryption_gate_matrix import (
    CASES,
    FORGED,
    GOOD,
    OCTETS,
    join,
    payload,
    walked,
)
from tests.unit.domain.scanning import REMOTE

ENCRYPTION = (523, "5.7.1 Encryption Needed: Invalid Unencrypted Mail", b"CANNOT")
HEADER = (554, "5.6.0 Malformed or oversized header", b"CANNOT")
LINE = (554, "5.6.0 Bare CR, LF or NUL not allowed", b"CANNOT")
BY_RULE = {"H-01": HEADER, "H-03": HEADER, "P-04": HEADER, "P-02": LINE, "P-03": LINE}
NO_DKIM = "554 5.7.1 No DKIM signature found"
DOORS = ("submission", "inbound", "append")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredRelay]:
    with running(tmp_path_factory.mktemp("gate")) as relay:
        yield relay


class Doors:
    """A sender with one session per door, opened again when the server closed it."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.alice, self.bob = newcomer(relay), newcomer(relay)
        self.imap = wire.imap(relay, *self.alice)
        self._sessions: dict[str, RawSmtp] = {}

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self.imap.shutdown()

    def smtp(self, door: str) -> RawSmtp:
        if door not in self._sessions:
            self._sessions[door] = (
                submitter(self.relay, self.alice)
                if door == "submission"
                else RawSmtp(self.relay, "smtp").secure()
            )
        return self._sessions[door]

    def give(self, door: str, octets: bytes, *recipients: str, path: str | None = None) -> Reply:
        """Hand a message of the builders' Alice in; returns the verdict on its content."""
        sender = self.alice[0] if door == "submission" else REMOTE
        octets = octets.replace(ALICE.encode(), sender.encode())
        envelope = sender if path is None else path
        reply = self.smtp(door).submit(envelope, recipients or [self.bob[0]], octets)
        if reply.whole == f"{LINE[0]} {LINE[1]}":
            assert self.smtp(door).is_closed()
            self._sessions.pop(door).close()
        return reply

    def append(self, octets: bytes) -> bytes:
        octets = octets.replace(ALICE.encode(), self.alice[0].encode())
        return mailbox.append(self.imap, octets)


@pytest.fixture(scope="module")
def doors(relay: Relay) -> Iterator[Doors]:
    doors = Doors(relay)
    yield doors
    doors.close()


@pytest.fixture(scope="module", autouse=True)
def nothing_refused_is_stored(doors: Doors) -> Iterator[None]:
    """Bob ends with what the accepting tests below gave him, and nothing of the matrix."""
    yield
    for octets in messages(doors.relay, doors.bob):
        assert b"\r\nX-Accepted: " in octets


def marked(octets: bytes) -> bytes:
    return octets.replace(b"\r\nMIME-Version", b"\r\nX-Accepted: yes\r\nMIME-Version", 1)


# --- refused everywhere --------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", CASES)
def test_attempt_is_refused(case: str, door: str, doors: Doors) -> None:
    rule, octets = CASES[case]
    code, text, imap_code = BY_RULE.get(rule, ENCRYPTION)
    if door == "append":
        if case == "A26 bare LF":  # mended first: what is left is text behind the last part
            code, text, imap_code = ENCRYPTION
        said = text.partition(" ")[2].encode()
        assert doors.append(octets) == b"NO [" + imap_code + b"] " + said
    else:
        assert doors.give(door, octets).whole == f"{code} {text}"


@pytest.mark.parametrize("door", DOORS)
def test_a11_text_in_part_headers(door: str, doors: Doors) -> None:
    octets = payload(GOOD, OCTETS, "X-Note: secret text")
    if door == "append":
        assert doors.append(octets).startswith(b"NO [CANNOT] Encryption Needed")
    else:
        # Gateways on the way add such fields, so inbound it comes as far as the signature.
        expected = 523 if door == "submission" else 554
        assert doors.give(door, octets).code == expected


@pytest.mark.parametrize("case", FORGED)
def test_a28_forged_authors(case: str, doors: Doors) -> None:
    octets = make_message(fields=[("From", FORGED[case])])
    assert doors.give("submission", octets).code == 500
    if case != "quoted":  # one author, and APPEND does not ask which (policy F-02)
        assert doors.append(octets) == b"NO [CANNOT] Invalid From header"


@pytest.mark.parametrize("door", ["submission", "inbound", "append"])
@pytest.mark.parametrize(
    "octets",
    [
        join(b"Secure-Join: vc-request\r\nHi Bob"),
        join(b"Secure-Join: vc-request", b"Hi Bob"),
        join(b"<b>Secure-Join: vc-request</b>", kind="text/html"),
        securejoin_request("vc-requestx"),
        join(b"Secure-Join: vc-request", preamble=b"Hi Bob\r\n"),
        securejoin_request("vc-auth-required"),
    ],
    ids=["more text", "two parts", "html", "suffix", "preamble", "later step"],
)
def test_a29_handshakes_that_carry_more(octets: bytes, door: str, doors: Doors) -> None:
    if door == "append":
        assert doors.append(octets).startswith(b"NO [CANNOT] Encryption Needed")
    else:
        assert doors.give(door, octets).code == 523


def test_a31_users_cannot_send_reports(doors: Doors) -> None:
    daemon = delivery_report(sender="MAILER-DAEMON@[127.0.0.1]")
    assert doors.give("submission", daemon).code == 500
    assert doors.give("submission", delivery_report(sender=ALICE)).code == 523


def test_a32_imitated_reports(doors: Doors) -> None:
    report = delivery_report()
    assert doors.give("inbound", report, path="xmailer-daemon@example.net").code == 523
    from_x = delivery_report(sender="xmailer-daemon@example.net")
    assert doors.give("inbound", from_x, path="").code == 523
    quoted = make_message(
        sender="mailer-daemon@example.net", encrypted=False, text="multipart/report"
    )
    assert doors.give("inbound", quoted, path="").code == 523
    assert doors.give("inbound", report, doors.bob[0], doors.alice[0], path="").code == 523
    # One in due form gets as far as the signature it lacks.
    assert doors.give("inbound", report, path="").whole == NO_DKIM


@pytest.mark.parametrize("recipients", [["a@evil-ex.org"], ["a@sub.ex.org"], ["a@ex.org", ""]])
def test_a33_passthrough_entries_match_whole_domains(
    relay: ConfiguredRelay, doors: Doors, recipients: list[str]
) -> None:
    relay.reload(gate={"passthrough_recipients": '["@ex.org"]'}, federation={"enabled": "false"})
    try:
        people = [recipient or doors.bob[0] for recipient in recipients]
        plain = make_message(encrypted=False)
        assert doors.give("submission", plain, *people).code == 523
        # Where it does match the verdict is the recipient's: there is no way out of here.
        assert doors.give("submission", plain, "a@ex.org").code == 550
    finally:
        relay.reload(gate={}, federation={})


@pytest.mark.parametrize("door", ["submission", "inbound"])
def test_a35_a_transaction_after_a_refusal_starts_clean(door: str, doors: Doors) -> None:
    client = doors.smtp(door)
    sender = doors.alice[0] if door == "submission" else REMOTE
    assert doors.give(door, make_message(encrypted=False)).code == 523
    assert client.command("DATA").code == 503
    assert client.command(f"RCPT TO:<{doors.bob[0]}>").code == 503
    refused = make_message(sender=sender, encrypted=False) + b".\r\n"
    envelope = f"MAIL FROM:<{sender}>\r\nRCPT TO:<{doors.alice[0]}>\r\nDATA\r\n".encode()
    client.send(envelope + refused + envelope + refused)
    assert [reply.code for reply in client.replies(8)] == [250, 250, 354, 523] * 2


# --- what is no attempt --------------------------------------------------------------------------

SIGNED_WITHOUT_CHECKSUM = next(o for n in range(3) if len(o := packets(300 + n)) % 3 == 1)
OLD_LAYOUT = multipart(
    part(
        b"Version: 1\r\n\r\n",
        'Content-Type: application/pgp-encrypted; charset="utf-8"',
        "Content-Description: PGP/MIME version identification",
        "Content-Transfer-Encoding: 7bit",
    ),
    payload_part(armor(packets(300)) + b"\r\n"),
    preamble=b"\r\n\r\n",
)
ACCEPTED = {
    "core": make_message(),
    "large": make_message(size=400_000),
    "old layout": make_message(body=OLD_LAYOUT),
    "minimal": payload(GOOD, OCTETS),
    "SEIPD 2": walked(pkesk(6) + seipd(version=2)),
    "partial lengths": walked(pkesk() + seipd(9000, length="partial")),
    "A15 no checksum": payload(armor(SIGNED_WITHOUT_CHECKSUM, checksum=False)),
    "A22 old format": walked(
        old_packet(1, pkesk_body(), 0) + old_packet(3, skesk4_body(), 1) + seipd()
    ),
    "A24 bomb": walked(pkesk() + packet(18, b"\x01" + noise(1000, 9))),
    "no protocol": make_message(
        fields=[
            ("Content-Type", encrypted_type().replace('protocol="application/pgp-encrypted"; ', ""))
        ]
    ),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("case", ACCEPTED)
def test_encrypted_mail_passes_with_nothing_but_the_listed_edits(
    case: str, door: str, doors: Doors
) -> None:
    octets = marked(ACCEPTED[case])
    if door == "inbound":  # encryption is judged first, so it is the signature that is missing
        assert doors.give(door, octets).whole == NO_DKIM
        return
    reader = doors.alice if door == "append" else doors.bob
    if door == "append":
        assert doors.append(octets).startswith(b"OK [APPENDUID ")
    else:
        assert doors.give(door, octets).code == 250
    stored = messages(doors.relay, reader)[-1]
    assert stored == octets.replace(ALICE.encode(), doors.alice[0].encode())


@pytest.mark.filterwarnings("ignore")  # PGPy's own
def test_what_another_implementation_encrypts_passes(doors: Doors) -> None:
    octets = marked(payload(pgpy_encrypted(kinds=("rsa", "x25519"))))
    assert doors.give("submission", octets).code == 250


def test_a12_base64_around_armor_passes_inbound_only(doors: Doors) -> None:
    octets = payload(wrap(GOOD), OCTETS, "Content-Transfer-Encoding: base64")
    assert doors.give("submission", octets).code == 523
    assert doors.give("inbound", octets).whole == NO_DKIM


@pytest.mark.parametrize("step", ["vc-request", "vg-request"])
@pytest.mark.parametrize("flat", [False, True], ids=["form A", "form B"])
def test_a30_handshakes_pass_and_lose_their_subject(step: str, flat: bool, doors: Doors) -> None:
    octets = securejoin_request(step, flat=flat, fields=[("Subject", "secret"), ("X-Note", "text")])
    joiner = newcomer(doors.relay)
    assert doors.give("submission", octets, joiner[0]).code == 250
    (stored,) = messages(doors.relay, joiner)
    assert b"Subject: [...]\r\n" in stored
    assert b"secret" not in stored
    assert b"X-Note" not in stored
    assert f"Secure-Join: {step}\r\n".encode() in stored
    assert doors.give("inbound", octets).whole == NO_DKIM
    assert doors.append(octets).startswith(b"NO [CANNOT] Encryption Needed")


def test_the_refusal_text_is_the_one_clients_know(doors: Doors) -> None:
    for _ in range(3):
        reply = doors.give("submission", make_message(encrypted=False))
        assert reply.whole == "523 5.7.1 Encryption Needed: Invalid Unencrypted Mail"
    accepted = doors.give("submission", marked(make_message()))
    assert accepted.code == 250
    assert accepted.text.startswith("2.0.0 Ok: queued as ")


def test_a_large_report_is_still_only_lacking_its_signature(doors: Doors) -> None:
    large = delivery_report(body=report_body(original=make_message(size=60_000)))
    assert doors.give("inbound", large, path="").whole == NO_DKIM
    assert BOUNDARY.encode() in large


def test_imap_keeps_nothing_that_was_refused(doors: Doors) -> None:
    newcomer_alice = count(doors.relay, doors.alice)
    assert doors.append(make_message(encrypted=False)).startswith(b"NO")
    assert count(doors.relay, doors.alice) == newcomer_alice


def test_control_part_alone_is_no_encryption(doors: Doors) -> None:
    assert doors.give("submission", make_message(body=multipart(CONTROL_PART))).code == 523

"""A mail server that is not ours on the other side: Postfix with OpenDKIM, both ways."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from deltachat_rpc_client import EventType
from deltachat_rpc_client.const import MessageState

from tests.builders import pgpy_key
from tests.e2e import postfix, wire
from tests.e2e.cores import Cores, await_event
from tests.e2e.federation import FederatedRelay, Network, await_empty_queue, network
from tests.e2e.postfix import KNOWN, LATE, UNKNOWN, Postfix
from tests.e2e.relay import wait_until
from tests.e2e.users import User

pytestmark = [
    pytest.mark.skipif(postfix.missing() is not None, reason=str(postfix.missing())),
]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network(tmp_path_factory.mktemp("postfix")) as net:
        yield net


@pytest.fixture(scope="module")
def remote(net: Network) -> Iterator[Postfix]:
    with postfix.running(net) as server:
        yield server


@pytest.fixture(scope="module")
def relay(net: Network, remote: Postfix) -> FederatedRelay:
    relay = net.relay("a.test")
    remote.knows(relay)
    return relay


@pytest.fixture
def alice(relay: FederatedRelay) -> User:
    return User.of(relay)


@pytest.mark.parametrize("size", [2000, 400_000, 8_000_000])
def test_it_accepts_what_we_signed(alice: User, remote: Postfix, size: int) -> None:
    message_id, reply = alice.send(KNOWN, size=size)
    assert reply.code == 250
    got = remote.await_mail(message_id)
    assert "dkim=pass" in got["Authentication-Results"]
    assert "header.d=a.test" in got["Authentication-Results"]
    assert got["Return-Path"] == f"<{alice.address}>"
    await_empty_queue(alice.relay)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [2000, 400_000, 8_000_000])
def test_we_accept_what_it_signed(alice: User, remote: Postfix, size: int) -> None:
    message_id, octets = wire.encrypted(KNOWN, size)
    remote.send(KNOWN, alice.address, octets)
    got = alice.await_message(message_id)
    assert got.partition(b"\r\n\r\n")[2] == octets.partition(b"\r\n\r\n")[2]
    assert b"DKIM-Signature" not in got
    assert "Verified TLS connection" in remote.log


def test_its_refusal_is_the_reply_of_the_submission(alice: User, remote: Postfix) -> None:
    _, reply = alice.send(UNKNOWN)
    assert reply.code == 550
    assert reply.text.startswith("5.1.1 ")
    assert "User unknown" in reply.text
    message_id, reply = alice.send(UNKNOWN, KNOWN)
    assert reply.code == 250
    assert alice.await_report(message_id).failed == {UNKNOWN: "5.1.1"}
    remote.await_mail(message_id)


def test_its_bounce_arrives_as_a_report(alice: User, remote: Postfix) -> None:
    message_id, reply = alice.send(LATE, size=60_000)
    assert reply.code == 250
    report = alice.await_report(message_id)
    assert report.message["From"].endswith("<MAILER-DAEMON@post.test>")
    assert b"BEGIN PGP MESSAGE" not in report.message.as_bytes(), "the original came along"


def test_our_report_on_an_unknown_user_reaches_its_user(
    relay: FederatedRelay, remote: Postfix
) -> None:
    """B7.2: taken like any other mail, reported by a message it finds signed."""
    message_id, octets = wire.encrypted(KNOWN)
    remote.send(KNOWN, "nobody123@a.test", octets)

    def reported() -> bool:
        reports = [m for m in remote.mailbox() if m.get_content_type() == "multipart/report"]
        return any(message_id in report.as_string() for report in reports)

    wait_until("the report arrived", reported)
    [report] = [m for m in remote.mailbox() if m.get_content_type() == "multipart/report"]
    assert report["Return-Path"] == "<>"
    assert "dkim=pass" in report["Authentication-Results"]


@pytest.mark.filterwarnings("ignore")  # PGPy's own
@pytest.mark.parametrize(("address", "words"), [(UNKNOWN, "User unknown"), (LATE, "is gone")])
def test_core_shows_its_refusal_and_its_bounce_on_the_message(
    relay: FederatedRelay, remote: Postfix, cores: Cores, address: str, words: str
) -> None:
    """A contact at the other server, known by key alone: a failed message says why."""
    alice = cores.online(relay, force_encryption="0")
    key = base64.b64encode(bytes(pgpy_key("x25519").pubkey)).decode()
    card = (
        f"BEGIN:VCARD\r\nVERSION:4.0\r\nEMAIL:{address}\r\nFN:somebody\r\n"
        f"KEY:data:application/pgp-keys;base64\\,{key}\r\nEND:VCARD\r\n"
    )
    [contact] = cores.rpc.import_vcard_contents(alice.id, card)
    sent = alice.get_contact_by_id(contact).create_chat().send_text("anybody there?")
    await_event(alice, EventType.MSG_FAILED, lambda event: event.msg_id == sent.id)
    assert sent.get_snapshot().state == MessageState.OUT_FAILED
    assert words in alice._rpc.get_message_info(alice.id, sent.id)

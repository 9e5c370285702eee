"""The wall clock jumps under a running relay: nobody is thrown out, nothing is deleted, it goes on.

libfaketime answers the relay's questions for the time of day and reads the jump from a file; the
monotonic clock, by which the relay waits, does not jump (CLOCK_MONOTONIC never does).
"""

from __future__ import annotations

import os
import smtplib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from tests.e2e import raw, wire
from tests.e2e.raw import RawImap, TunedRelay
from tests.e2e.relay import Relay, wait_until
from tests.e2e.timepiece import Timepiece

SECTIONS = '[imap]\nidle_keepalive = "60s"\n'
WAITS_FOR_KEEPALIVES = "CHATMAIL_TEST_KEEPALIVES" in os.environ  # a minute each


@pytest.fixture(scope="module")
def clock_of_all(tmp_path_factory: pytest.TempPathFactory) -> Timepiece:
    """The clock of this module's relay."""
    return Timepiece(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="module")
def relay(
    tmp_path_factory: pytest.TempPathFactory, clock_of_all: Timepiece
) -> Iterator[TunedRelay]:
    """A relay that goes by that clock: 20 messages a minute, ten at once."""
    folder = tmp_path_factory.mktemp("relay")
    relay = TunedRelay(folder, rate=20, env=clock_of_all.env, sections=SECTIONS)
    with raw.running(relay):
        yield relay


@pytest.fixture
def timepiece(clock_of_all: Timepiece) -> Iterator[Timepiece]:
    """A clock to be turned; it is right again afterwards."""
    yield clock_of_all
    clock_of_all.jump(timedelta())


def internal_date(client: RawImap, uid: int) -> datetime:
    """The INTERNALDATE of a message."""
    [[text]] = client.ok(f"UID FETCH {uid} (INTERNALDATE)").find(rb'INTERNALDATE "([^"]+)"')
    return datetime.strptime(text.decode().strip(), "%d-%b-%Y %H:%M:%S %z")


def uid_validity(client: RawImap, mailbox: str) -> int:
    """Make a mailbox; returns its UIDVALIDITY, and removes it."""
    client.ok(f"CREATE {mailbox}")
    validity = client.ok(f"STATUS {mailbox} (UIDVALIDITY)").number(rb"UIDVALIDITY (\d+)")
    client.ok(f"DELETE {mailbox}")
    return validity


@pytest.mark.parametrize(
    "distance",
    [
        pytest.param(timedelta(days=-1), id="a day back"),
        pytest.param(timedelta(days=365), id="a year forward"),
    ],
)
def test_a_jump_throws_nobody_out_and_deletes_nothing(
    relay: Relay, timepiece: Timepiece, distance: timedelta
) -> None:
    bob = raw.newcomer(relay)
    alice = relay.credentials()
    with (
        raw.client(relay, bob, "INBOX") as idler,
        raw.client(relay, bob, "INBOX") as reader,
        wire.smtp(relay, *alice) as sender,
    ):

        def send() -> int:
            try:
                sender.sendmail(alice[0], [bob[0]], wire.encrypted(alice[0])[1])
            except smtplib.SMTPRecipientsRefused as refused:
                return next(iter(refused.recipients.values()))[0]
            except smtplib.SMTPResponseException as refused:
                return refused.smtp_code
            return 250

        def send_in_the_end() -> None:
            """Twenty refusals end an SMTP session, so it is not asked too often."""
            codes = []
            while len(codes) < 15 and 250 not in codes:
                time.sleep(1)
                codes.append(send())
            assert 250 in codes, codes

        assert send() == 250
        validity = uid_validity(reader, "Before")
        tag = idler.idle()
        codes: list[int] = []
        while 450 not in codes:  # three seconds give one back: it takes few more than ten
            codes.append(send())

        timepiece.jump(distance)

        # Sessions stay, and so does what is stored.
        stored = 1 + codes.count(250)
        assert reader.ok("STATUS INBOX (MESSAGES)").number(rb"MESSAGES (\d+)") == stored
        keepalives = 0
        idler.socket.settimeout(90)
        while WAITS_FOR_KEEPALIVES and keepalives < 2:
            keepalives += idler.response().octets.startswith(b"* OK Still")
        # The budget refills by the clock that does not jump.
        send_in_the_end()
        uid = reader.ok("STATUS INBOX (UIDNEXT)").number(rb"UIDNEXT (\d+)") - 1
        date = internal_date(reader, uid)
        assert abs(date - timepiece.now()) < timedelta(seconds=30)
        # Numbers go up whatever the clock says.
        assert uid_validity(reader, "Before") > validity
        # New connections and logins, and all of it again once the clock is right.
        raw.client(relay, bob, "INBOX").close()
        raw.newcomer(relay)
        timepiece.jump(timedelta())
        send_in_the_end()
        assert uid_validity(reader, "Before") > validity
        assert abs(internal_date(reader, uid + 1) - timepiece.now()) < timedelta(seconds=30)
        news = idler.done(tag)
        assert news.is_ok
        assert f"* {stored + 2} EXISTS".encode() in news.lines
        messages = reader.ok("STATUS INBOX (MESSAGES)").number(rb"MESSAGES (\d+)")
        assert messages == stored + 2
    print(
        f"clock jumped by {distance.days} days: nobody thrown out, {messages} messages, none lost"
    )


def test_a_report_that_is_owed_comes_though_the_clock_went_back(
    relay: Relay, timepiece: Timepiece
) -> None:
    alice, bob, gone = relay.credentials(), raw.newcomer(relay), relay.credentials()
    with wire.smtp(relay, *alice) as sender, raw.client(relay, alice, "INBOX") as owner:
        sender.sendmail(alice[0], [bob[0], gone[0]], wire.encrypted(alice[0])[1])
        timepiece.jump(timedelta(days=-1))
        wait_until(
            "the report is there",
            lambda: owner.ok("STATUS INBOX (MESSAGES)").number(rb"MESSAGES (\d+)") == 1,
        )
    print("clock went back a day while a report was owed: it came")

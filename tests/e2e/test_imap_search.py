"""SEARCH as clients ask: text as a person reads it, kept results, long searches."""

from __future__ import annotations

import datetime
import imaplib
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from email.policy import SMTP

import pytest
from imap_tools import AND, NOT, OR, H, MailBox
from imapclient import IMAPClient

from tests.e2e import wire
from tests.e2e.raw import TunedRelay, client, newcomer, running
from tests.e2e.relay import Relay
from tests.e2e.stopwatch import Stopwatch

CLEARTEXT = '[gate]\nappend_policy = "any"'
DAY = datetime.date(2026, 1, 15)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file; APPEND takes cleartext."""
    with running(TunedRelay(tmp_path_factory.mktemp("search"), sections=CLEARTEXT)) as relay:
        yield relay


def letter(
    sender: str, subject: str, text: str, *, charset: str = "utf-8", cte: str = "base64"
) -> bytes:
    """A letter with a text and a picture."""
    message = EmailMessage(policy=SMTP)
    message["From"] = f"Jürgen Müller <{sender}>"
    message["To"] = "somebody@example.org"
    message["Subject"] = subject
    message["Date"] = "Thu, 15 Jan 2026 12:00:00 +0000"
    message["Message-ID"] = f"<{subject.encode().hex()}@example.org>"
    message.set_content(text, charset=charset, cte=cte)
    message.add_attachment(b"picture", maintype="image", subtype="png", filename="bild.png")
    return message.as_bytes()


@pytest.fixture(scope="module")
def letters(relay: Relay) -> tuple[str, str]:
    """An account with four letters."""
    account = newcomer(relay)
    with client(relay, account) as raw:
        for octets, flags in (
            (letter(account[0], "Grüße aus Köln", "Ein Café am Ring\n"), "(\\Seen)"),
            (letter(account[0], "Привет", "Добрый день\n", charset="koi8-r", cte="8bit"), "()"),
            (letter(account[0], "こんにちは", "東京\n", charset="iso-2022-jp", cte="7bit"), "(kw)"),
            (
                letter(account[0], "plain", "soft line breaks " * 20, cte="quoted-printable"),
                "(\\Flagged)",
            ),
        ):
            answer = raw.append(octets, f'INBOX {flags} "15-Jan-2026 12:00:00 +0000"')
            assert answer.is_ok, answer.tagged
    return account


WORDS = [
    ("SUBJECT", "grüsse", [1]),
    ("SUBJECT", "KÖLN", [1]),
    ("SUBJECT", "привет", [2]),
    ("SUBJECT", "こんにちは", [3]),
    ("FROM", "jürgen müller", [1, 2, 3, 4]),
    ("BODY", "CAFÉ", [1]),
    ("BODY", "добрый", [2]),
    ("BODY", "東京", [3]),
    ("BODY", "breaks soft line", [4]),
    ("BODY", "bild.png", [1, 2, 3, 4]),
    ("BODY", "picture", []),
    ("BODY", "Köln", []),
    ("TEXT", "Köln", [1]),
    ("TEXT", "nowhere", []),
]


@pytest.mark.parametrize(("key", "text", "uids"), WORDS)
def test_imaplib_and_imapclient_find_decoded_text(
    relay: Relay, letters: tuple[str, str], key: str, text: str, uids: list[int]
) -> None:
    with wire.imap(relay, *letters) as plain:
        plain.select("INBOX", readonly=True)
        plain.literal = text.encode()
        found = plain.uid("SEARCH", "CHARSET", "UTF-8", key)[1][0]
        assert found.split() == [str(uid).encode() for uid in uids]
    with IMAPClient("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls()) as other:
        other.login(*letters)
        other.select_folder("INBOX", readonly=True)
        assert other.search([key, text], charset="UTF-8") == uids
        assert other.search(["NOT", key, text], "UTF-8") == sorted({1, 2, 3, 4} - set(uids))


def test_what_imap_tools_builds_is_understood(relay: Relay, letters: tuple[str, str]) -> None:
    with MailBox("127.0.0.1", relay.ports["imaps"], ssl_context=wire.tls()).login(*letters) as box:
        for criteria, uids in (
            (AND(all=True), "1234"),
            (AND(seen=True), "1"),
            (AND(seen=False, flagged=True), "4"),
            (AND(answered=False, draft=False, deleted=False), "1234"),
            (AND(new=True), ""),
            (AND(recent=True), ""),
            (AND(old=True), "1234"),
            (AND(keyword="kw"), "3"),
            (AND(no_keyword="kw"), "124"),
            (AND(from_="jürgen", subject="köln"), "1"),
            (AND(to="somebody@example.org", cc=""), ""),
            (AND(body="café"), "1"),
            (AND(text="東京"), "3"),
            (AND(date=DAY), "1234"),
            (AND(date_gte=DAY, date_lt=DAY + datetime.timedelta(1)), "1234"),
            (AND(sent_date=DAY), "1234"),
            (AND(sent_date_gte=DAY, sent_date_lt=DAY), ""),
            (AND(size_gt=100, size_lt=100_000), "1234"),
            (AND(uid="2:3"), "23"),
            (AND(uid=["1", "4"]), "14"),
            (AND(header=H("Subject", "plain")), "4"),
            (AND(header=[H("Message-ID", "@example.org"), H("Date", "2026")]), "1234"),
            (OR(seen=True, keyword="kw"), "13"),
            (NOT(AND(seen=True), AND(flagged=True)), "1234"),
            (AND(NOT(seen=True), OR(AND(flagged=True), AND(keyword="kw"))), "34"),
        ):
            found = box.uids(criteria, charset="UTF-8")
            assert "".join(found) == uids, str(criteria)


def test_a_kept_result_is_fetched_stored_and_copied(relay: Relay, letters: tuple[str, str]) -> None:
    with wire.imap(relay, *letters) as plain:
        assert "SEARCHRES" in plain.capabilities
        plain.select("INBOX")
        assert plain.uid("SEARCH", "RETURN", "(SAVE)", "UNSEEN")[0] == "OK"
        assert plain.untagged_responses.get("SEARCH") is None
        assert plain.untagged_responses.get("ESEARCH") is None
        rows = plain.uid("FETCH", "$", "(UID)")[1]
        assert [row.split()[-1] for row in rows] == [b"2)", b"3)", b"4)"]
        plain.create("Kept")
        assert plain.uid("COPY", "$", "Kept")[0] == "OK"
        plain.uid("STORE", "$", "+FLAGS", "($mark)")
        assert plain.uid("SEARCH", "KEYWORD", "$mark")[1] == [b"2 3 4"]
        plain.uid("SEARCH", "RETURN", "(SAVE MIN)", "ALL")
        assert plain.uid("SEARCH", "$")[1] == [b"1"]
        plain.select("Kept")
        assert plain.uid("FETCH", "$", "(UID)")[1] == [None]
        plain.uid("SEARCH", "RETURN", "(SAVE)", "1")
        plain.uid("STORE", "1:*", "+FLAGS.SILENT", "(\\Deleted)")
        plain.uid("EXPUNGE", "$")
        assert plain.uid("SEARCH", "ALL")[1] == [b"2 3"]


def test_others_are_served_while_one_searches_all_its_mail(relay: Relay) -> None:
    account, other = newcomer(relay), newcomer(relay)
    with client(relay, account, "INBOX") as raw:
        octets = letter(account[0], "long", "line of text\n" * 200_000)
        assert raw.append(octets).is_ok
        for _ in range(3):
            raw.ok("COPY 1:* INBOX")
        texts = " ".join(f'BODY "nowhere {number}"' for number in range(6))
        slowest = 0.0
        is_over = threading.Event()

        def watch() -> None:
            nonlocal slowest
            stopwatch = Stopwatch(relay)
            with client(relay, other) as watcher:
                while not is_over.is_set():
                    stopwatch.start()
                    watcher.ok("NOOP")
                    slowest = max(slowest, stopwatch.elapsed_s())
                    is_over.wait(0.01)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            assert raw.ok(f"SEARCH NOT ({texts})").lines[-1] == b"* SEARCH 1 2 3 4 5 6 7 8"
            assert raw.ok("FETCH 1:* BODYSTRUCTURE").is_ok
        finally:
            is_over.set()
            watching.join()
    assert slowest < 1.0, "somebody else waited"


def test_a_command_of_hundreds_of_texts_is_answered_or_refused(relay: Relay) -> None:
    account = newcomer(relay)
    with client(relay, account, "INBOX") as raw:
        octets = letter(account[0], "long", "a" * 70 + "\n" * 10_000)
        assert raw.append(octets).is_ok
        texts = " ".join(f"BODY {'a' * 90}{number}" for number in range(400))
        assert raw.ok(f"SEARCH {texts}").lines[-1] == b"* SEARCH"


def test_a_wrong_charset_is_named(relay: Relay, letters: tuple[str, str]) -> None:
    with wire.imap(relay, *letters) as plain:
        plain.select("INBOX", readonly=True)
        kind, (text,) = plain.uid("SEARCH", "CHARSET", "KOI8-R", "SUBJECT", '"x"')
        assert kind == "NO"
        assert text.startswith(b"[BADCHARSET (US-ASCII UTF-8)]")
        with pytest.raises(imaplib.IMAP4.error):
            plain.uid("SEARCH", "NONSENSE")

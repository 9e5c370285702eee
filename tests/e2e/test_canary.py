"""Unique strings go through every protocol; none may come out anywhere but in mail (T-33)."""

from __future__ import annotations

import imaplib
import secrets
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import make_message
from tests.e2e import mailbox, wire
from tests.e2e.configured import ConfiguredRelay, running
from tests.e2e.databases import Rows
from tests.e2e.mailbox import await_messages
from tests.e2e.rawsmtp import RawSmtp, plain, submitter
from tests.e2e.web import Web

MAIL_AND_CREDENTIALS = {
    "accounts": {"address", "secret"},
    "device_tokens": {"token"},
    "reports": {"sender", "failed", "header"},
    "outbound_messages": {"reverse_path", "prefix"},
    "outbound_recipients": {"recipient", "written", "domain"},
    # Domains of other relays, never addresses (federation-web.md A13.4).
    "peer_health": {"domain"},
    "peer_counters": {"domain"},
    "mailboxes": {"name", "keywords"},
    "messages": {"keywords"},
    "contents": {"header", "body"},  # PostgreSQL
}
"""Columns that may hold what people wrote."""


def word() -> str:
    """Nine letters nobody else uses."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(9))


class Canary:
    """Says unmistakable things at every door; `private` are all of them."""

    def __init__(self, relay: ConfiguredRelay) -> None:
        self.relay = relay
        self.private: dict[str, str] = {}
        self.alice = (f"{self.new('alice')}@[127.0.0.1]", self.new("password") + "-Pass")
        self.bob = (f"{self.new('bob')}@[127.0.0.1]", self.new("bob's password") + "-Pass")

    def new(self, name: str) -> str:
        self.private[name] = word()
        return self.private[name]

    def fields(self, kind: str) -> list[tuple[str, str]]:
        names = ("Subject", "X-Note", "User-Agent", "Received")
        return [(name, self.new(f"{kind} {name}")) for name in names]

    def speak_smtp(self) -> None:
        wire.imap(self.relay, *self.bob).logout()
        with RawSmtp(self.relay).secure() as client:
            client.command(f"EHLO {self.new('ehlo')}.example")
            client.command(f"VRFY {self.new('vrfy')}")
            client.command(self.new("unknown verb"))
            client.command(b"AUTH PLAIN " + plain(*self.alice))
            message_id = f"<{self.new('message id')}@{self.new('id host')}>"
            octets = make_message(
                sender=self.alice[0], fields=self.fields("sent"), message_id=message_id
            )
            dead = f"{self.new('dead')}@[127.0.0.1]"
            far = f"{self.new('far')}@{self.new('far domain')}.example"
            assert client.submit(self.alice[0], [self.bob[0], dead, far], octets).code == 250
            for kind, body in (("refused", False), ("large refused", False)):
                text = self.new(f"{kind} text") * (1 if kind == "refused" else 60_000)
                cleartext = make_message(
                    sender=self.alice[0],
                    encrypted=body,
                    text=text,
                    fields=self.fields(kind),
                    message_id=f"<{self.new(kind + ' id')}@x>",
                )
                assert client.submit(self.alice[0], [self.bob[0]], cleartext).code == 523
            forged = f"{self.new('forged')}@{self.new('forged domain')}.example"
            client.submit(self.alice[0], [self.bob[0]], make_message(sender=forged))
            client.command(f"MAIL FROM:<{self.new('other')}@[127.0.0.1]>")
            client.command(f"RCPT TO:<{self.new('rcpt')}@[127.0.0.1]>")
        with RawSmtp(self.relay).secure() as client:
            client.command(b"AUTH PLAIN " + plain(self.alice[0], self.new("wrong password")))
        with submitter(self.relay, self.alice) as client:
            client.envelope(self.alice[0], [self.bob[0]])
            client.send(b"Subject: " + self.new("half subject").encode() + b"\r\n\r\n")
            client.send(self.new("half text").encode() * 60_000)

    def speak_inbound(self) -> None:
        sender = f"{self.new('stranger')}@{self.new('stranger domain')}.example"
        with RawSmtp(self.relay, "smtp").secure() as client:
            octets = make_message(sender=sender, fields=self.fields("inbound"))
            client.submit(sender, [self.bob[0]], octets)
            client.command(f"RCPT TO:<{self.new('relayed')}@example.org>")
            client.send(self.new("bare line").encode() + b"\n")

    def speak_imap(self) -> None:
        with wire.imap(self.relay, *self.bob) as client:
            client.select("INBOX")
            lines = [
                f'SEARCH HEADER Subject "{self.new("search")}"',
                f"{self.new('imap verb')} x",
                f'SELECT "{self.new("missing mailbox")}"',
                f'SETMETADATA "" (/private/devicetoken "{self.new("device token")}")',
                f'ID ("name" "{self.new("client name")}")',
                f"STORE 1 +FLAGS ({self.new('keyword')})",
                f'CREATE "{self.new("mailbox")}"',
                f'LOGIN {self.new("second login")} "{self.new("second password")}"',
            ]
            for at, line in enumerate(lines):
                client.send(f"C{at} {line}\r\n".encode())
                while not client.readline().startswith(f"C{at} ".encode()):
                    pass
            refused = make_message(
                encrypted=False, text=self.new("append text"), sender=self.bob[0]
            )
            assert mailbox.append(client, refused).startswith(b"NO")
        with pytest.raises(imaplib.IMAP4.error):
            wire.imap(self.relay, self.bob[0], self.new("wrong imap password"))

    def speak_http(self) -> list[bytes]:
        """Returns what came back: error pages may not repeat the request."""
        answers = []
        for face in ("http", "https"):
            web = Web(self.relay, face)
            self.private[f"{face} token"] = token = word() + word()
            answers += [
                web.get(f"/{self.new(f'{face} path')}?x={self.new(f'{face} query')}"),
                web.post(f"/new?token={token}"),
                web.post("/new", f'{{"token": "{self.new(f"{face} body")}"}}'.encode()),
                web.get(
                    "/", User_Agent=self.new(f"{face} agent"), Cookie=self.new(f"{face} cookie")
                ),
                web.get("/", Host=f"{self.new(f'{face} host')}.example"),
                web.get(f"/inv/{self.new(f'{face} invite')}%00"),
                web.get("/livez", X_Forwarded_For="203.0.113.77"),
                web.ask("BREW", "/", None, X_Secret=self.new(f"{face} field")),
            ]
            made = web.post("/new").json()
            self.private[f"{face} drawn password"] = made["password"]
            self.private[f"{face} drawn name"] = made["email"].partition("@")[0]
        return [answer.body for answer in answers]


@pytest.fixture(params=["info", "debug"])
def relay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ConfiguredRelay]:
    with running(tmp_path / "relay", log={"level": f'"{request.param}"'}) as relay:
        yield relay


def test_what_people_say_stays_in_their_mail(relay: ConfiguredRelay) -> None:
    canary = Canary(relay)
    canary.speak_smtp()
    canary.speak_inbound()
    canary.speak_imap()
    pages = canary.speak_http()
    await_messages(relay, canary.alice, 1)  # the report of the dead and the far recipient
    relay.stop()
    state = relay.folder / "state"
    said = "\n".join(relay.errors)
    assert "smtp_message_refused" in said, "there is a log to look at"
    assert "203.0.113.77" not in said
    assert "127.0.0.1" not in said
    for name, text in canary.private.items():
        assert text not in said, f"log: {name}"
        if "invite" not in name:
            for page in pages:
                assert text.encode() not in page, f"page: {name}"
    stored = b"".join(
        path.read_bytes() for path in (*state.glob("mail/*"), *state.glob("chatmail.db*"))
    )
    with relay.rows() as db:
        rest = dict(_files_outside_mail(state)) | dict(_tables(db, MAIL_AND_CREDENTIALS))
        stored += b"".join(octets for _, octets in _tables(db, {}))
    for name, text in canary.private.items():
        for place, octets in rest.items():
            assert text.encode() not in octets, f"{place}: {name}"
        if _is_never_stored(name):
            assert text.encode() not in stored, f"store: {name}"
    relay.start()


def _is_never_stored(name: str) -> bool:
    words = name.split()
    return name != "device token" and bool({"password", "refused", "half", "token"} & set(words))


def _files_outside_mail(state: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file of the state that has no business with what people say."""
    for path in sorted(state.rglob("*")):
        is_mail = path.parent.name == "mail" or path.name.startswith("chatmail.db")
        if path.is_file() and not is_mail:
            yield str(path.relative_to(state)), path.read_bytes()
    assert not list((state / "spool").iterdir())


def _tables(db: Rows, without: dict[str, set[str]]) -> Iterator[tuple[str, bytes]]:
    """Yield every table, some columns left out."""
    tables = db.tables()
    assert set(without) <= {*tables, "contents"}
    for table in tables:
        cursor = db.execute(f"SELECT * FROM {table}")
        names = [column[0] for column in cursor.description]
        kept = [at for at, name in enumerate(names) if name not in without.get(table, set())]
        rows = [[row[at] for at in kept] for row in cursor]
        yield f"table {table}", repr(rows).encode()


def test_no_log_at_all_when_it_is_off(tmp_path: Path) -> None:
    with running(tmp_path / "relay", log={"target": '"off"'}) as relay:
        canary = Canary(relay)
        canary.speak_smtp()
        canary.speak_imap()
    assert relay.errors == [], "all of it was read: the relay has ended"

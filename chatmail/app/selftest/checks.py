"""What a relay has to do, tried out as a client and as another relay would.

Each check is a function of the `Trial`; it raises `CheckFailed` with what the operator is to be
told, or returns a remark.
"""

from __future__ import annotations

import contextlib
import http.client
import imaplib
import re
import smtplib
import string
import time
from collections.abc import Callable, Iterable, Iterator
from secrets import choice
from typing import Final, TypeAlias

import attrs

from chatmail.app.selftest.clients import Target
from chatmail.app.selftest.letters import cleartext_letter, encrypted_letter

Account: TypeAlias = tuple[str, str]
Check: TypeAlias = "Callable[[Trial], str]"

ARRIVAL_S: Final = 10.0
NEEDED_CAPABILITIES: Final = ("IDLE", "METADATA", "QUOTA", "UIDPLUS")
_ALPHABET: Final = string.ascii_lowercase + string.digits
_TROUBLE: Final = (OSError, imaplib.IMAP4.error, smtplib.SMTPException, http.client.HTTPException)


class CheckFailed(Exception):
    """The relay does not do what it has to."""


@attrs.define(kw_only=True)
class Trial:
    """A relay under test, and the accounts made for it.

    `create` makes an account as the operator does; None: only a first login does.
    `expects_jit` says whether first logins make accounts.
    """

    target: Target
    expects_jit: bool
    create: Callable[[], Account] | None = None
    accounts: list[Account] = attrs.field(factory=list)

    def account(self, place: int) -> Account:
        """Return the first or second account, made now if need be."""
        while len(self.accounts) <= place:
            self.accounts.append(self._newcomer())
        return self.accounts[place]

    def _newcomer(self) -> Account:
        if self.create is not None:
            return self.create()
        if self.expects_jit:
            return self.first_login()
        raise CheckFailed("new accounts are not given by first login (jit)")

    def first_login(self) -> Account:
        """Have a first login make an account."""
        address = f"{_drawn(9)}@{self.target.domain}"
        account = (address, _drawn(22))
        self.imap(account).logout()
        return account

    def imap(self, account: Account) -> imaplib.IMAP4:
        """Log in by IMAP."""
        client = self.target.imap()
        try:
            client.login(*account)
        except imaplib.IMAP4.error:
            client.shutdown()
            raise CheckFailed("the login was refused by IMAP") from None
        return client


@attrs.frozen(kw_only=True)
class Result:
    """How a check ended."""

    name: str
    is_ok: bool
    detail: str
    seconds: float


def run_checks(trial: Trial, names: Iterable[str]) -> Iterator[Result]:
    """Run checks by name, one after the other."""
    for name in names:
        started = time.monotonic()
        try:
            detail, is_ok = CHECKS[name](trial), True
        except CheckFailed as failed:
            detail, is_ok = str(failed), False
        except _TROUBLE as error:
            detail, is_ok = f"the connection failed: {type(error).__name__}", False
        seconds = time.monotonic() - started
        yield Result(name=name, is_ok=is_ok, detail=detail, seconds=seconds)


# --- clients --------------------------------------------------------------------------------------


def _tls(trial: Trial) -> str:
    spoken = []
    for face in ("imaps", "submissions", "https"):
        if face in trial.target.ports:
            with trial.target.tls(*trial.target.ports[face]) as stream:
                spoken.append(f"{face} {stream.version()}")
    if not spoken:
        raise CheckFailed("no face speaks TLS from the first octet")
    return ", ".join(spoken)


def _jit(trial: Trial) -> str:
    if not trial.expects_jit:
        return "first logins do not make accounts here (registration.jit)"
    try:
        trial.accounts.append(trial.first_login())
    except CheckFailed:
        # Load, memory, disk and the file `nocreate` hold new accounts back (spec policy 2.4).
        hint = "the log says why: creation_refused_by_host, login_refused"
        raise CheckFailed(f"a first login made no account; {hint}") from None
    return "a first login made an account"


def _login(trial: Trial) -> str:
    address, password = trial.account(0)
    trial.imap((address, password)).logout()
    client = trial.target.imap()
    with contextlib.suppress(imaplib.IMAP4.error):
        client.login(address, f"{password}x")
        raise CheckFailed("IMAP took a wrong password")
    client.shutdown()
    with trial.target.submission() as smtp:
        if smtp.login(address, password)[0] != 235:
            raise CheckFailed("the login was refused by submission")
    return ""


def _metadata(trial: Trial) -> str:
    with trial.imap(trial.account(0)) as client:
        missing = [one for one in NEEDED_CAPABILITIES if one not in client.capabilities]
        _, rows = client.xatom("GETMETADATA", '""', '"/shared/vendor/deltachat/maxsmtprecipients"')
        found = client.response("METADATA")[1]
    if missing:
        raise CheckFailed(f"IMAP does not offer {', '.join(missing)}")
    if not rows or found == [None]:
        raise CheckFailed("no server metadata is given")
    return ""


def _send(trial: Trial) -> str:
    sender, recipient = trial.account(0), trial.account(1)
    id, octets = encrypted_letter(sender[0], recipient[0])
    started = time.monotonic()
    with trial.target.submission() as smtp:
        smtp.login(*sender)
        _expect(_transaction(smtp, sender[0], recipient[0], octets), 250, "an encrypted message")
    with trial.imap(recipient) as client:
        while not _has(client, id):
            if time.monotonic() - started > ARRIVAL_S:
                raise CheckFailed(f"the message did not arrive within {ARRIVAL_S:.0f} s")
            time.sleep(0.02)
    return f"arrived after {(time.monotonic() - started) * 1000:.0f} ms"


def _has(client: imaplib.IMAP4, id: str) -> bool:
    client.select("INBOX", readonly=True)
    _, rows = client.search(None, "HEADER", "Message-ID", id)
    return bool(rows and rows[0])


def _cleartext(trial: Trial) -> str:
    sender, recipient = trial.account(0), trial.account(1)
    _, octets = cleartext_letter(sender[0], recipient[0])
    with trial.target.submission() as smtp:
        smtp.login(*sender)
        _expect(_transaction(smtp, sender[0], recipient[0], octets), 523, "a message in clear")
    return ""


# --- other relays ---------------------------------------------------------------------------------


def _starttls(trial: Trial) -> str:
    _has_face(trial, "smtp")
    with trial.target.relay_door() as smtp:
        if not smtp.has_extn("starttls"):
            raise CheckFailed("port 25 does not offer STARTTLS")
        if smtp.has_extn("auth"):
            raise CheckFailed("port 25 offers a login")
        _expect(smtp.docmd("MAIL FROM:<>"), 530, "MAIL before STARTTLS")
    return ""


def _no_open_relay(trial: Trial) -> str:
    _has_face(trial, "smtp")
    with trial.target.relay_door() as smtp:
        trial.target.start_tls(smtp)
        _expect(smtp.docmd("MAIL FROM:<probe@selftest.invalid>"), 250, "MAIL")
        _expect(smtp.docmd("RCPT TO:<x@elsewhere.invalid>"), 550, "a foreign recipient")
        answer = smtp.docmd(f"RCPT TO:<{trial.account(0)[0]}>")
        _expect(answer, 250, "our own recipient")
    return ""


def _no_spoofing(trial: Trial) -> str:
    """What claims to come from here does not come in from outside (federation-web.md B3.4)."""
    _has_face(trial, "smtp")
    own = trial.account(0)[0]
    with trial.target.relay_door() as smtp:
        trial.target.start_tls(smtp)
        code, _ = smtp.docmd(f"MAIL FROM:<{own}>")
        if code == 250:
            code, _ = smtp.docmd(f"RCPT TO:<{own}>")
        if code == 250:
            code, _ = smtp.data(encrypted_letter(own, own)[1])
    if code // 100 != 5:
        raise CheckFailed(f"mail from outside in our own name was answered with {code}")
    return ""


def _mxdeliv(trial: Trial) -> str:
    _has_face(trial, "https")
    status, _ = trial.target.post("/mxdeliv", {})
    if status != 400:
        raise CheckFailed(f"POST /mxdeliv without fields was answered with {status}, not 400")
    own = trial.account(0)[0]
    fields = {"X-Mail-From": own, "X-Mail-To": own}
    status, said = trial.target.post("/mxdeliv", fields, encrypted_letter(own, own)[1])
    if status != 403:
        raise CheckFailed(f"mail in our own name was answered with {status} {said}, not 403")
    return ""


def _has_face(trial: Trial, face: str) -> None:
    if face not in trial.target.ports:
        raise CheckFailed(f"there is no listener for {face}: other relays cannot reach this one")


def _transaction(
    smtp: smtplib.SMTP, sender: str, recipient: str, octets: bytes
) -> tuple[int, bytes]:
    for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
        answer = smtp.docmd(command)
        if answer[0] // 100 != 2:
            return answer
    return smtp.data(octets)


def _expect(answer: tuple[int, bytes], code: int, what: str) -> None:
    if answer[0] != code:
        said = re.sub(r"[^ -~]+", " ", answer[1].decode("ascii", "replace"))[:120]
        raise CheckFailed(f"{what} was answered with {answer[0]} {said}, not {code}")


def _drawn(length: int) -> str:
    return "".join(choice(_ALPHABET) for _ in range(length))


CHECKS: Final[dict[str, Check]] = {
    "tls": _tls,
    "jit": _jit,
    "login": _login,
    "metadata": _metadata,
    "send": _send,
    "cleartext": _cleartext,
    "federation-starttls": _starttls,
    "federation-no-open-relay": _no_open_relay,
    "federation-no-spoofing": _no_spoofing,
    "federation-mxdeliv": _mxdeliv,
}

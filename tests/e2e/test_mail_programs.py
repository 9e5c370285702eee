"""fetchmail, mutt, curl and interimap against the relay, in batch."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e import wire
from tests.e2e.mailbox import append, count, messages
from tests.e2e.programs import far_flags, message_id, run
from tests.e2e.raw import Sender, client, newcomer, running
from tests.e2e.relay import Relay
from tests.patience import PATIENCE_S


def needs(program: str) -> pytest.MarkDecorator:
    """Skip a test where a program is missing."""
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"needs {program}")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """One relay for the whole file."""
    with running(Relay(tmp_path_factory.mktemp("programs"))) as relay:
        yield relay


def put(relay: Relay, account: tuple[str, str], amount: int, name: str = "INBOX") -> list[str]:
    """Append messages; returns their Message-IDs."""
    names = []
    with wire.imap(relay, *account) as plain:
        for _ in range(amount):
            known, octets = wire.encrypted(account[0], 1_500)
            assert append(plain, octets, name).startswith(b"OK")
            names.append(known)
    return names


# --- fetchmail -----------------------------------------------------------------------------------


END = "end-of-a-message"


def fetchmail(
    relay: Relay, account: tuple[str, str], folder: Path, options: str, *, security: str = "ssl"
) -> list[str]:
    """Fetch once into a file; returns the Message-IDs, in order."""
    box = folder / "fetched"
    box.write_bytes(b"")
    face = "imaps" if security == "ssl" else "imap"
    config = folder / "fetchmailrc"
    config.write_text(
        f"poll 127.0.0.1 service {relay.ports[face]} protocol imap auth password\n"
        f'user "{account[0]}" password "{account[1]}" {options}\n'
        f"{'ssl' if security == 'ssl' else 'sslproto TLS1.3'} no sslcertck\n"
        f'mda "(cat; echo {END}) >> {box}"\n'
    )
    config.chmod(0o600)
    command = ["fetchmail", "-f", str(config), "--pidfile", str(folder / "pid"), "--nosyslog"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={**os.environ, "HOME": str(folder), "FETCHMAILHOME": str(folder)},
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: there was no mail
    return [message_id(octets) for octets in box.read_bytes().split(f"{END}\n".encode())[:-1]]


@needs("fetchmail")
@pytest.mark.parametrize("security", ["ssl", "starttls"])
def test_fetchmail_takes_all_and_leaves_nothing(
    relay: Relay, tmp_path: Path, security: str
) -> None:
    account = newcomer(relay)
    with Sender(relay) as sender:
        names = [sender.send(account[0], size=size) for size in (500, 5_000, 200_000)]
    assert fetchmail(relay, account, tmp_path, "nokeep fetchall", security=security) == names
    assert count(relay, account) == 0
    assert fetchmail(relay, account, tmp_path, "nokeep fetchall", security=security) == []


@needs("fetchmail")
def test_fetchmail_keeps_and_takes_what_is_unseen_later(relay: Relay, tmp_path: Path) -> None:
    account = newcomer(relay)
    first = put(relay, account, 3)
    assert fetchmail(relay, account, tmp_path, "keep") == first
    second = put(relay, account, 2)
    assert fetchmail(relay, account, tmp_path, "keep") == second
    assert far_flags(relay, account) == {name: {"\\Seen"} for name in first + second}


# --- mutt ----------------------------------------------------------------------------------------


def mutt(relay: Relay, account: tuple[str, str], folder: Path, *commands: str) -> None:
    """Open INBOX in mutt, push keys, leave."""
    config = folder / "muttrc"
    config.write_text(
        f'set folder="imaps://127.0.0.1:{relay.ports["imaps"]}/"\n'
        f'set spoolfile="+INBOX"\nset imap_user="{account[0]}"\nset imap_pass="{account[1]}"\n'
        f"set certificate_file={folder}/certificates\nset ssl_verify_host=no\n"
        f"set ssl_verify_dates=no\nset ssl_force_tls=yes\nset delete=yes\nset confirmappend=no\n"
        f"set move=no\nset mail_check_recent=no\nset confirmcreate=no\nset wait_key=no\n"
        + "".join(f"push '{keys}'\n" for keys in reversed(commands))
    )
    certificate = relay.folder / "state" / "tls" / "fullchain.pem"
    shutil.copy(certificate, folder / "certificates")
    run(["script", "-qec", f"mutt -n -F {config}", "/dev/null"], folder, TERM="vt100")


@needs("mutt")
def test_mutt_flags_copies_and_deletes(relay: Relay, tmp_path: Path) -> None:
    account = newcomer(relay)
    names = put(relay, account, 4)
    with wire.imap(relay, *account) as plain:
        plain.create("Kept")
    mutt(
        relay,
        account,
        tmp_path,
        f"<tag-pattern>~i {names[0][1:-1]}<enter><tag-prefix><flag-message><untag-pattern>.<enter>",
        f"<tag-pattern>~i {names[1][1:-1]}<enter><tag-prefix><copy-message>=Kept<enter>",
        "<untag-pattern>.<enter>",
        f"<delete-pattern>~i {names[2][1:-1]}<enter>",
        "<sync-mailbox><quit>",
    )
    far = far_flags(relay, account)
    assert set(far) == {names[0], names[1], names[3]}
    assert "\\Flagged" in far[names[0]]
    assert set(far_flags(relay, account, "Kept")) == {names[1]}


# --- curl ----------------------------------------------------------------------------------------


def curl(
    relay: Relay,
    account: tuple[str, str],
    folder: Path,
    path: str,
    *arguments: str,
    face: str = "imaps",
) -> bytes:
    """One request; returns the octets it printed."""
    config = folder / "curlrc"
    config.write_text(f'user = "{account[0]}:{account[1]}"\ninsecure\nsilent\nshow-error\n')
    scheme = "imap" if face == "imap" else "imaps"
    demand = ["--ssl-reqd"] if face == "imap" else []
    done = subprocess.run(
        [
            "curl",
            "-K",
            str(config),
            *demand,
            *arguments,
            f"{scheme}://127.0.0.1:{relay.ports[face]}/{path}",
        ],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs("curl")
@pytest.mark.parametrize("face", ["imaps", "imap"])
def test_curl_lists_appends_searches_and_fetches(relay: Relay, tmp_path: Path, face: str) -> None:
    account = newcomer(relay)
    name, octets = wire.encrypted(account[0], 40_000)
    file = tmp_path / "message"
    file.write_bytes(octets)
    curl(relay, account, tmp_path, "INBOX", "-T", str(file), face=face)
    assert messages(relay, account) == [octets]
    assert b'"/" "INBOX"' in curl(relay, account, tmp_path, "", face=face)
    found = curl(relay, account, tmp_path, f"INBOX?HEADER%20Message-ID%20{name}", face=face)
    assert found == b"* SEARCH 1\r\n"
    assert curl(relay, account, tmp_path, "INBOX;UID=1", face=face) == octets
    header = curl(relay, account, tmp_path, "INBOX;UID=1;SECTION=HEADER", face=face)
    assert header == octets.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    curl(relay, account, tmp_path, "INBOX", "-X", "STORE 1 +FLAGS (\\Deleted)", face=face)
    curl(relay, account, tmp_path, "INBOX", "-X", "CLOSE", face=face)
    assert count(relay, account) == 0


# --- interimap -----------------------------------------------------------------------------------


class Interimap:
    """Two accounts that interimap keeps equal by QRESYNC; one of them over COMPRESS."""

    def __init__(self, relay: Relay, folder: Path) -> None:
        self.relay = relay
        self.folder = folder
        self.near, self.far = newcomer(relay), newcomer(relay)
        self.config = folder / "interimaprc"
        sides = "".join(
            f"[{side}]\ntype = imaps\nhost = 127.0.0.1\nport = {relay.ports['imaps']}\n"
            f"username = {account[0]}\npassword = {account[1]}\nSSL_verify = NO\n"
            f"compress = {compress}\n\n"
            for side, account, compress in (("local", self.near, "NO"), ("remote", self.far, "YES"))
        )
        self.config.write_text(f"database = {folder}/state.db\n\n{sides}")
        self.config.chmod(0o600)

    def sync(self, *options: str) -> str:
        """Synchronise once; returns what was printed."""
        return run(["interimap", f"--config={self.config}", *options], self.folder)

    def equal(self, name: str = "INBOX") -> dict[str, set[str]]:
        """Check that both sides have the same; returns it."""
        near = far_flags(self.relay, self.near, name)
        assert far_flags(self.relay, self.far, name) == near
        return near

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Run it with NOTIFY for as long as the context is open."""
        words = ["interimap", f"--config={self.config}", "--notify", "--quiet"]
        running = subprocess.Popen(words, cwd=self.folder, stderr=subprocess.DEVNULL)
        try:
            yield
        finally:
            running.terminate()
            running.wait(PATIENCE_S)

    def soon_equal(self, count: int, flag: str = "", flagged: int = 0, name: str = "INBOX") -> None:
        """Wait until both sides have the same, so many messages, so many of them with a flag."""
        deadline = time.monotonic() + PATIENCE_S  # it asks by itself after 15 minutes only
        while True:
            near, far = (far_flags(self.relay, one, name) for one in (self.near, self.far))
            has_flags = sum(flag in flags for flags in near.values()) == flagged if flag else True
            if near == far and len(near) == count and has_flags:
                return
            assert time.monotonic() < deadline, (near, far)
            time.sleep(0.1)


@pytest.fixture
def twins(relay: Relay, tmp_path: Path) -> Interimap:
    """Two new accounts."""
    return Interimap(relay, tmp_path)


@needs("interimap")
def test_interimap_keeps_two_accounts_equal(relay: Relay, twins: Interimap) -> None:
    """QRESYNC as a program of others uses it: changes since, VANISHED (EARLIER), MULTIAPPEND."""
    names = put(relay, twins.near, 20) + put(relay, twins.far, 20)
    with wire.imap(relay, *twins.far) as plain:
        plain.create("Far/deep")
        plain.create("Gr&APwA3w-e")
    below = put(relay, twins.far, 3, "Far/deep")
    twins.sync()
    assert set(twins.equal()) == set(names)
    assert set(twins.equal("Far/deep")) == set(below)
    twins.equal("Gr&APwA3w-e")

    with client(relay, twins.near, "INBOX") as near, client(relay, twins.far, "INBOX") as far:
        near.ok("UID STORE 1:5 +FLAGS (\\Seen)")
        near.ok("UID STORE 6:8 +FLAGS (\\Deleted)")
        near.ok("UID EXPUNGE 6:7")
        near.ok("UID EXPUNGE 8")
        far.ok("UID STORE 10:12 +FLAGS (\\Flagged $Label)")
        far.ok("UID STORE 13:15 +FLAGS (\\Deleted)")
        far.ok("EXPUNGE")
    twins.sync()
    same = twins.equal()
    assert len(same) == 34
    assert sum("\\Seen" in flags for flags in same.values()) == 5
    assert sum({"\\Flagged", "$Label"} <= flags for flags in same.values()) == 3

    before = [client_status(relay, account) for account in (twins.near, twins.far)]
    twins.sync()
    assert [client_status(relay, account) for account in (twins.near, twins.far)] == before
    assert "WARNING" not in twins.sync("--repair")
    assert len(twins.equal()) == 34


@needs("interimap")
def test_interimap_is_told_by_notify(relay: Relay, twins: Interimap) -> None:
    """NOTIFY as a program of others uses it: both sides change, it never asks."""
    put(relay, twins.near, 2)
    with wire.imap(relay, *twins.far) as plain:
        plain.create("Far/deep")
    twins.sync()
    with twins.watching():
        with Sender(relay) as sender:
            for account in (twins.near, twins.far, twins.near, twins.far):
                sender.send(account[0])
        twins.soon_equal(6)
        with client(relay, twins.far, "INBOX") as far:
            far.ok("UID STORE 1:3 +FLAGS (\\Flagged)")
        twins.soon_equal(6, "\\Flagged", 3)
        with client(relay, twins.near, "INBOX") as near:
            near.ok("UID STORE 2 +FLAGS.SILENT (\\Deleted)")
            near.ok("EXPUNGE")
        twins.soon_equal(5, "\\Flagged", 2)
        put(relay, twins.far, 2, "Far/deep")  # not selected there: a STATUS tells
        twins.soon_equal(2, name="Far/deep")
        with client(relay, twins.near, "Far/deep") as near:
            near.ok("UID STORE 1 +FLAGS.SILENT (\\Deleted)")
            near.ok("CLOSE")
        twins.soon_equal(1, name="Far/deep")


def client_status(relay: Relay, account: tuple[str, str]) -> bytes:
    """What STATUS tells of everything that could have changed."""
    with client(relay, account) as raw:
        return raw.ok("STATUS INBOX (MESSAGES UIDNEXT UNSEEN HIGHESTMODSEQ)").lines[0]

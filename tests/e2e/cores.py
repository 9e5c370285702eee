"""Real Delta Chat cores, driven through their JSON-RPC server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deltachat_rpc_client import Account, DeltaChat, EventType, Rpc
from deltachat_rpc_client.const import MessageState

from tests.e2e.relay import Relay, wait_until
from tests.patience import PATIENCE_S

_DELIVERED = (MessageState.OUT_DELIVERED, MessageState.OUT_MDN_RCVD)


def rpc_server_path() -> str:
    """The binary that the PyPI package ships, beside the running interpreter."""
    found = shutil.which("deltachat-rpc-server", path=str(Path(sys.executable).parent))
    return found or "deltachat-rpc-server"


def dclogin(relay: Relay, address: str, password: str, security: str = "ssl") -> str:
    """The link a demo relay hands out: literal domain, self-signed certificate."""
    secret = quote(password, safe="")
    imap = relay.ports["imaps" if security == "ssl" else "imap"]
    smtp = relay.ports["submissions" if security == "ssl" else "submission"]
    return (
        f"dclogin:{address}?p={secret}&v=1&ih=127.0.0.1&ip={imap}&is={security}"
        f"&sh=127.0.0.1&sp={smtp}&ss={security}&ic=3"
    )


class Cores:
    """One RPC server process with as many profiles as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.rpc = Rpc(accounts_dir=str(folder), rpc_server_path=rpc_server_path())
        self.rpc.start()
        self.deltachat = DeltaChat(self.rpc)

    def close(self) -> None:
        self.rpc.close()
        process = self.rpc.process
        process.wait(PATIENCE_S)
        for pipe in (process.stdout, process.stderr):  # the client library leaves them open
            if pipe is not None:
                pipe.close()

    def online(
        self,
        relay: Relay,
        *,
        security: str = "ssl",
        credentials: tuple[str, str] | None = None,
        **config: str,
    ) -> Account:
        """A new profile, configured by JIT through a dclogin link; by default a new address."""
        account = self.deltachat.add_account()
        for key, value in config.items():
            account.set_config(key, value)
        address, password = credentials or relay.credentials()
        account.add_transport_from_qr(dclogin(relay, address, password, security))
        account.bring_online()
        return account


def second_device(
    cores: Cores, first: Account, relay: Relay, password: str, folder: Path
) -> Account:
    """The same profile once more, as a backup takes it along, connected to `relay`."""
    first.set_config("bcc_self", "1")
    first.stop_io()
    folder.mkdir()
    first.export_backup(str(folder))
    (backup,) = folder.glob("*.tar")
    second = cores.deltachat.add_account()
    second.import_backup(str(backup))
    address = first.get_config("configured_addr")
    second.add_transport_from_qr(dclogin(relay, address, password))
    first.bring_online()
    second.bring_online()
    return second


def await_event(account: Account, kind: EventType, match: Callable[[Any], bool]) -> Any:
    """Wait for an event of a kind that matches. The test's own time limit bounds the wait."""
    while True:
        event = account.wait_for_event()
        if event.kind == kind and match(event):
            return event


def await_text(account: Account, text: str) -> Any:
    """Wait until a message with this very text has arrived; returns the message."""
    while True:
        event = account.wait_for_event()
        if event.kind in (EventType.INCOMING_MSG, EventType.MSGS_CHANGED) and event.msg_id:
            message = account.get_message_by_id(event.msg_id)
            if message.get_snapshot().text == text:
                return message


def await_delivered(messages: Iterable[Any], timeout_s: float = PATIENCE_S) -> None:
    """Wait until messages were taken by their relay.

    Of many messages events alone do not tell: core drops the oldest events when they are read late.
    """
    waiting = list(messages)

    def all_left() -> bool:
        while waiting and waiting[-1].get_snapshot().state in _DELIVERED:
            waiting.pop()
        return not waiting

    wait_until("all messages have left", all_left, timeout_s)


def await_texts(chat: Any, texts: Iterable[str], timeout_s: float = PATIENCE_S) -> None:
    """Wait until messages with all these texts are in a chat; see `await_delivered`."""
    wanted, known = set(texts), set[int]()

    def all_came() -> bool:
        for message in chat.get_messages():
            if message.id not in known:
                known.add(message.id)
                wanted.discard(message.get_snapshot().text)
        return not wanted

    wait_until("all texts have come", all_came, timeout_s)


def introduce(first: Account, second: Account) -> tuple[Any, Any]:
    """Join `second` to `first` by its QR code; returns both 1:1 chats, verified and writable."""
    chat = second.secure_join(first.get_qr_code())
    first.wait_for_securejoin_inviter_success()
    second.wait_for_securejoin_joiner_success()
    return first.create_chat(second), chat

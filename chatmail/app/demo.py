"""`chatmail serve --demo`: a relay for [127.0.0.1] from nothing (contract 1)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chatmail.adapters.system.clock import SystemEntropy
from chatmail.app.welcome import welcome_text
from chatmail.domain.policy.registration import draw_name, draw_password

if TYPE_CHECKING:
    from chatmail.app.wiring import Relay

STATE_DIR: Final = "chatmail-demo"

# Behind the port base: 2000 gives 2025+500 for SMTP and 3478+20000 for TURN, as in the contract.
_OFFSETS: Final[Mapping[str, int]] = {
    "smtp": 525,
    "submission": 587,
    "submissions": 465,
    "imap": 143,
    "imaps": 993,
    "http": 80,
    "https": 443,
}


def overrides(state_dir: Path, port_base: int) -> dict[str, object]:
    """Return the demo's configuration by dotted key, as TOML would give it."""
    listen = {
        f"listen.{face}": [f"127.0.0.1:{port_base + offset}"] for face, offset in _OFFSETS.items()
    }
    return {
        "server.ip": "127.0.0.1",
        "server.hostname": "127.0.0.1",
        "server.state_dir": str(state_dir.absolute()),
        "tls.mode": "self-signed",
        # Nobody but the person at this computer can register; a busy or full laptop must not
        # keep the demo from showing anything.
        "registration.max_load_1m": 0,
        "registration.min_available_memory": 0,
        "registration.min_free_disk_space": 0,
        **listen,
        "listen.turn": [],
        "listen.turns": [],
        "listen.iroh": [],
        "listen.shadowsocks": [],
    }


def welcome(relay: Relay, *, state_dir: str, is_terminal: bool) -> str:
    """Return what the demo says before its ready line, with credentials for a first account."""
    entropy, settings = SystemEntropy(), relay.settings()
    address = f"{draw_name(entropy.text, settings.registration)}@{settings.identity.mail_domain}"
    password = draw_password(entropy.text, settings.registration)
    return welcome_text(
        relay.site.relay(), address, password, state_dir=state_dir, is_terminal=is_terminal
    )

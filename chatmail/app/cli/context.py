"""Where a command acts: in the running server through its socket, else on the store itself."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from chatmail.adapters.control.client import (
    BrokenAnswer,
    CallRefused,
    NotAllowed,
    NotRunning,
    call_server,
)
from chatmail.app.cli.output import CommandFailed, Exit
from chatmail.app.config_choice import (
    ConfigError,
    ConfigUnreadable,
    chosen_file,
    state_override,
)
from chatmail.app.config_sources import gather, insert
from chatmail.domain.wire.jsonrpc import ErrorCode

if TYPE_CHECKING:
    from chatmail.app.config import LoadedConfig

ANSWER_S: Final = 90.0
SLOW_ANSWER_S: Final = 3700.0
_SLOW: Final = ("task.", "queue.", "domain.", "dkim.", "account.", "exchanger.")
"""They walk over the whole store, or wait for others."""
DEFAULT_STATE_DIR: Final = Path("/var/lib/chatmail")

_EXITS: Final = {
    ErrorCode.NOT_FOUND: Exit.NOT_FOUND,
    ErrorCode.UNAUTHORIZED: Exit.PERMISSION,
}


@attrs.frozen(kw_only=True)
class Context:
    """What the flags that every command takes have said."""

    environ: Mapping[str, str]
    config: Path | None = None
    state_dir: Path | None = None
    is_offline: bool = False

    def call(self, method: str, params: Mapping[str, object] | None = None) -> Any:
        """Run a method in the server, or on the store when no server runs.

        Raises:  CommandFailed: with what the operator is to be told.
        """
        if not self.is_offline:
            try:
                return self.call_server(method, params)
            except NotRunning:
                pass
        return self._call_offline(method, params or {})

    def call_running(self, method: str) -> Any:
        """Run a method that only a running server has. Raises:  CommandFailed."""
        try:
            if not self.is_offline:
                return self.call_server(method, {})
        except NotRunning:
            pass
        raise CommandFailed(Exit.NOT_RUNNING, "the server is not running")

    def call_server(self, method: str, params: Mapping[str, object] | None) -> Any:
        """Run a method in the server. Raises:  NotRunning, CommandFailed."""
        patience_s = SLOW_ANSWER_S if method.startswith(_SLOW) else ANSWER_S
        try:
            return call_server(self.runtime_dir(), method, params or {}, patience_s)
        except CallRefused as refused:
            raise _failure(refused.code, refused.reasons) from None
        except NotAllowed as error:
            raise CommandFailed(Exit.PERMISSION, str(error)) from None
        except BrokenAnswer as error:
            raise CommandFailed(Exit.FAILURE, str(error)) from None

    def runtime_dir(self) -> Path:
        """Return where the control socket is. A file with wrong values or unknown keys will do.

        Raises:  CommandFailed: the file that was named is not there, or cannot be read at all.
        """
        try:
            file = chosen_file(self.config, self.environ)
        except ConfigError as error:
            raise _unusable(error) from None
        gathered = gather(file, self.environ, state_override(self.state_dir))
        entries = gathered.entries
        if gathered.problems and "server.state_dir" not in entries:
            raise CommandFailed(Exit.FAILURE, *gathered.problems)
        base = Path.cwd() if file is None else file.absolute().parent

        def path(key: str) -> Path | None:
            raw = entries[key].raw if key in entries else ""
            try:
                text = insert(raw, self.environ, base)
            except ValueError:
                return None
            return base / text if isinstance(text, str) and text else None

        return path("server.runtime_dir") or (path("server.state_dir") or DEFAULT_STATE_DIR) / "run"

    def load(self) -> LoadedConfig:
        """Read the configuration. Raises:  CommandFailed."""
        from chatmail.app.config import load_chosen

        try:
            return load_chosen(self.config, self.state_dir, self.environ, time.time())
        except ConfigError as error:
            raise _unusable(error) from None

    def _call_offline(self, method: str, params: Mapping[str, object]) -> Any:
        # Only now: the store takes half a second to import, and a running server needs none of it.
        from chatmail.app.cli.offline import Refused, call_store

        outcome = call_store(self.load(), method, params)
        if isinstance(outcome, Refused):
            raise _failure(outcome.code, outcome.reasons)
        return outcome


def _unusable(error: ConfigError) -> CommandFailed:
    code = Exit.PERMISSION if isinstance(error, ConfigUnreadable) else Exit.FAILURE
    return CommandFailed(code, *error.problems)


def _failure(code: int, reasons: tuple[str, ...]) -> CommandFailed:
    exits = {int(error): status for error, status in _EXITS.items()}
    return CommandFailed(exits.get(code, Exit.FAILURE), *reasons)

"""A relay with more in its configuration file than the plain fixture needs."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.relay import Relay, wait_until

Table = dict[str, str]
"""Key → value as TOML text."""


@dataclass
class ConfiguredRelay(Relay):
    """`tables` are added to the file; a key that stands there already is replaced."""

    tables: dict[str, Table] = field(default_factory=dict)

    def write_config(self) -> None:
        super().write_config()
        text = self.config.read_text()
        for table, keys in self.tables.items():
            text = _merge(text, table, keys)
        self.config.write_text(text)

    def reload(self, **tables: Table) -> None:
        """Change tables of the running relay and wait until it has followed."""
        self.tables.update(tables)
        self.write_config()
        assert self.process is not None
        done = self.said("reloaded")
        self.process.send_signal(signal.SIGHUP)
        wait_until("the relay reloaded", lambda: self.said("reloaded") > done)

    def said(self, event: str) -> int:
        """Return how often an event was logged."""
        return sum(event in line.split() for line in self.errors)


def _merge(text: str, table: str, keys: Table) -> str:
    head = f"[{table}]\n"
    if head not in text:
        text += head
    before, _, after = text.partition(head)
    own, bracket, rest = after.partition("\n[")
    kept = [line for line in own.splitlines() if line.split(" = ")[0] not in keys]
    added = [f"{key} = {value}" for key, value in keys.items()]
    return before + head + "\n".join([*kept, *added]) + "\n" + bracket.lstrip("\n") + rest


@contextmanager
def running(
    folder: Path, *, rate: int = 0, database: str = "", **tables: Table
) -> Iterator[ConfiguredRelay]:
    """A relay for the tests of one module; it has to end well.

    Args:  database: URL; if empty it is chosen as the environment says.
    """
    relay = ConfiguredRelay(folder, rate=rate, database=database, tables=tables)
    relay.start()
    try:
        yield relay
        assert relay.stop() == 0, "\n".join(relay.errors[-20:])
    finally:
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()

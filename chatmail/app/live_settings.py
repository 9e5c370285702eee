"""File, environment and stored settings become the snapshot that everybody reads.

Precedence: stored setting > environment > file > built-in (spec admin 3). Each change makes a new
frozen snapshot and swaps one reference; sessions read it at their next command.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import attrs

from chatmail.adapters.system.redaction import Public
from chatmail.app.config_checks import Finding, check_settings
from chatmail.app.config_identity import to_settings
from chatmail.app.config_keys import BootConfig
from chatmail.app.config_sections import ListenSection
from chatmail.app.config_values import ListenAddress
from chatmail.domain.model.settings import SettingsSnapshot, SettingValue
from chatmail.domain.policy.settings_rules import BadSetting, Overrides, overrides
from chatmail.domain.policy.settings_table import BY_KEY, RULES, SETTING_FACES, Applies
from chatmail.domain.ports.settings import StoredSettings

if TYPE_CHECKING:
    from chatmail.app.config import LoadedConfig

NOTHING_STORED: Final = StoredSettings(0, {})
LOOPBACK: Final = ("127.0.0.1", "::1")

_AT_RELOAD: Final = frozenset(rule.key for rule in RULES if rule.applies is Applies.RELOAD)
_WEB_PORTS: Final = frozenset({"__HTTP_PORT__", "__HTTPS_PORT__"})
_FACE_OF: Final = {
    f"__{name.upper()}_{what}__": face
    for name, face in SETTING_FACES.items()
    for what in ("PORT", "LOCAL_ONLY", "ENABLED")
}


class Log(Protocol):
    """Where settings report to."""

    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def silence(self, is_silent: bool) -> None: ...


def compose(boot: BootConfig, replaced: Overrides) -> BootConfig:
    """Return the configuration with stored settings laid over it."""
    sections: dict[str, dict[str, Any]] = {}
    for key, value in replaced.values.items():
        section, _, name = key.partition(".")
        sections.setdefault(section, {})[name] = value
    parts = {
        section: attrs.evolve(getattr(boot, section), **values)
        for section, values in sections.items()
    }
    listen = _listen(boot, replaced)
    return attrs.evolve(boot, **parts, listen=listen)


def _listen(boot: BootConfig, replaced: Overrides) -> ListenSection:
    listen = boot.listen
    for face in {*replaced.ports, *replaced.local_only, *replaced.closed}:
        addresses = () if face in replaced.closed else getattr(listen, face)
        if face in replaced.ports:
            port = replaced.ports[face]
            addresses = [one if one.is_unix else ListenAddress(one.host, port) for one in addresses]
        if face in replaced.local_only:
            hosts = LOOPBACK if boot.server.ipv6 else LOOPBACK[:1]
            addresses = [local for one in addresses for local in _on_loopback(one, hosts)]
        changed: dict[str, Any] = {face: tuple(dict.fromkeys(addresses))}
        listen = attrs.evolve(listen, **changed)
    return listen


def _on_loopback(address: ListenAddress, hosts: tuple[str, ...]) -> list[ListenAddress]:
    if address.is_unix:
        return [address]
    return [ListenAddress(host, address.port) for host in hosts]


class LiveSettings:
    """The settings in force: called, it returns the snapshot of this instant.

    `boot` is the whole configuration with the stored settings laid over it.
    """

    def __init__(self, loaded: LoadedConfig, log: Log, *, is_serving: bool = True) -> None:
        """Args:  is_serving: False in a command: what it changes, the next start follows."""
        self._log = log
        self._is_serving = is_serving
        self._started_as = loaded.boot.server
        self._loaded = loaded
        self._stored = NOTHING_STORED
        self._at_reload: Mapping[str, str] = {}
        self._told: frozenset[BadSetting] = frozenset()
        self.on_change: Callable[[], None] = _nothing
        self.open_early: Callable[[BootConfig], Awaitable[tuple[str, ...]]] = _nowhere
        self.boot = loaded.boot
        self.current = to_settings(loaded.boot)

    def __call__(self) -> SettingsSnapshot:
        """Return the snapshot of this instant."""
        return self.current

    # What the file says

    def follow_file(self, loaded: LoadedConfig) -> None:
        """Take over a file that was read anew, and what was waiting for a reload."""
        self._loaded = loaded
        self._at_reload = {
            key: text for key, text in self._stored.values.items() if key in _AT_RELOAD
        }
        self._swap()

    def configured(self, config_key: str) -> SettingValue:
        """Return what file, environment and defaults say."""
        section, _, name = config_key.partition(".")
        # Rules name scalar keys that exist; a unit test compares the two tables.
        return cast(SettingValue, getattr(getattr(self._loaded.boot, section), name))

    def origin(self, config_key: str) -> str:
        """Return where that comes from: `default`, `file` or `env`."""
        return self._loaded.origins.get(config_key, "default")

    # What is stored

    @property
    def generation(self) -> int:
        """The generation of the stored settings in force."""
        return self._stored.generation

    def follow(self, stored: StoredSettings) -> None:
        """Take over what is stored; an older generation than the present one is ignored."""
        if stored.generation < self._stored.generation:
            return
        has_changed = stored != self._stored
        self._stored = stored
        if has_changed:
            self._swap()
            self._log.info("settings_changed", generation=stored.generation)

    def start_with(self, stored: StoredSettings) -> None:
        """Take over everything stored, as a start does: nothing waits for a reload."""
        self._stored = stored
        self.follow_file(self._loaded)

    def is_pending(self, key: str) -> bool:
        """Say whether a change of this setting waits for a reload."""
        if not self._is_serving or key not in _AT_RELOAD:
            return False
        return self._stored.values.get(key) != self._at_reload.get(key)

    def pending(self) -> tuple[str, ...]:
        """Return the keys whose change waits for a reload."""
        return tuple(sorted(key for key in _AT_RELOAD if self.is_pending(key)))

    def problems(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """Say what of these stored texts does not fit together or with the file."""
        boot = compose(self._loaded.boot, overrides(values, self.configured))
        return tuple(
            f"{finding.keys[0]}: {finding.message}"
            for finding in check_settings(boot)
            if not finding.is_warning
        )

    async def prepare(self, changes: Mapping[str, str | None]) -> tuple[str, ...]:
        """Open new web ports before they are stored (spec admin 1.7); old ones stay open.

        Who changes them speaks to the new port at once, and the reload comes by it.
        """
        early = {key: text for key, text in changes.items() if key in _WEB_PORTS}
        if not early:
            return ()
        texts = {**self._at_reload, **early}
        stored = {key: text for key, text in texts.items() if text is not None}
        return await self.open_early(compose(self._loaded.boot, overrides(stored, self.configured)))

    def _swap(self) -> None:
        in_force = {key: text for key, text in self._stored.values.items() if key not in _AT_RELOAD}
        stored = {**in_force, **self._at_reload}
        misfits = self._misfits(stored)
        fitting = {key: text for key, text in stored.items() if key not in misfits}
        replaced = overrides(fitting, self.configured)
        self.boot = compose(self._loaded.boot, replaced)
        self.current = self._snapshot()
        self._log.silence(replaced.log_disabled)
        self._tell((*replaced.bad, *(BadSetting(key, text) for key, text in misfits.items())))
        self.on_change()

    def _misfits(self, stored: Mapping[str, str]) -> dict[str, str]:
        """Return the settings that no longer fit the file, as after an edit of it, and why."""
        boot = self._loaded.boot
        of_the_file = check_settings(boot)
        replaced = overrides(stored, self.configured)
        found: dict[str, str] = {}
        for finding in check_settings(compose(boot, replaced)):
            if not finding.is_warning and finding not in of_the_file:
                found.update(dict.fromkeys(_to_blame(finding, stored), finding.message))
        return found

    def _snapshot(self) -> SettingsSnapshot:
        """Who we are stays until a restart (spec admin 5.5)."""
        settings = to_settings(self.boot)
        old, new = self._started_as, self._loaded.boot.server
        if (old.domain, old.ip) != (new.domain, new.ip):
            return attrs.evolve(settings, identity=self.current.identity)
        return settings

    def _tell(self, ignored: Iterable[BadSetting]) -> None:
        """Name each stored text that is not followed, once."""
        found = frozenset(ignored)
        for bad in sorted(found - self._told, key=lambda one: one.key):
            self._log.warning("setting_ignored", key=Public(bad.key), problem=Public(bad.problem))
        self._told = found


def _to_blame(finding: Finding, stored: Iterable[str]) -> Iterator[str]:
    for key in stored:
        rule = BY_KEY.get(key)
        if rule is None:
            continue
        face = _FACE_OF.get(key)
        if rule.config_key in finding.keys or (face and f"listen.{face}" in finding.keys):
            yield key


def _nothing() -> None:
    """Nobody listens."""


async def _nowhere(boot: BootConfig) -> tuple[str, ...]:
    """Nothing is open."""
    return ()

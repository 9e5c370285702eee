"""Show and change settings while the relay runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final, TypeAlias

import attrs

from chatmail.domain.policy.settings_rules import (
    DEFAULT_RETENTION_S,
    Overrides,
    overrides,
    unknown_keys,
)
from chatmail.domain.policy.settings_table import (
    BY_KEY,
    RULES,
    Applies,
    Kind,
    SettingRule,
    find_rule,
)
from chatmail.domain.policy.settings_values import accept, show
from chatmail.domain.ports.settings import SettingsInForce, SettingsStore, StoredSettings

MASK: Final = "********"
ATTEMPTS: Final = 3
"""Another process may change settings at the same instant; three times in a row it does not."""

_RETENTION: Final = "retention.messages"
_BEHIND: Final = frozenset({"__MESSAGE_RETENTION_ENABLED__", "__MESSAGE_RETENTION__"})
"""Two settings that stand for that one key of the file."""


@attrs.frozen(kw_only=True)
class SettingView:
    """One setting as shown.

    `value` is the stored text, empty when nothing is stored; `effective` is the text in force,
    empty when nothing says what that is. `source` is `setting`, `file`, `env` or `default`. Secrets
    are masked. `is_known` is False for a stored key that this program has no rule for.
    """

    key: str
    name: str
    kind: str
    value: str
    effective: str
    source: str
    applies: str
    is_set: bool
    is_pending: bool = False
    is_known: bool = True


@attrs.frozen
class Changed:
    """The change is stored and in force, except what waits for a reload."""

    generation: int
    settings: tuple[SettingView, ...]


@attrs.frozen
class UnknownSetting:
    """There is no setting of this name; nothing was changed."""

    name: str


@attrs.frozen
class InvalidSetting:
    """Nothing was changed; one problem each, for the operator. `key` is the first one to blame."""

    key: str
    problems: tuple[str, ...]


@attrs.frozen
class SettingsBusy:
    """Others kept changing settings; nothing was changed, trying again may help."""


ChangeOutcome: TypeAlias = Changed | UnknownSetting | InvalidSetting | SettingsBusy


@attrs.frozen(kw_only=True)
class ChangeSettings:
    """The settings of the relay, for whoever operates it. Names: see `find_rule`."""

    store: SettingsStore
    in_force: SettingsInForce

    async def list(self) -> tuple[SettingView, ...]:
        """Return every setting in the order of the table, then the stored keys nobody knows.

        Raises:  TransientFailure: the store could not be read.
        """
        stored = await self.store.all()
        known = self._views(stored, RULES)
        return (*known, *(_unknown_view(key) for key in unknown_keys(stored.values)))

    async def get(self, name: str) -> SettingView | None:
        """Return one setting; None: there is no such one. Raises:  TransientFailure."""
        stored = await self.store.all()
        rule = find_rule(name)
        if rule is not None:
            return self._views(stored, (rule,))[0]
        return _unknown_view(name) if name in stored.values else None

    async def set_many(self, changes: Mapping[str, str]) -> ChangeOutcome:
        """Store new texts by name, all or none of them.

        Raises:  TransientFailure: nothing was stored.
        """
        accepted: dict[str, str | None] = {}
        for name, text in changes.items():
            rule = find_rule(name)
            if rule is None:
                return UnknownSetting(name)
            try:
                accepted[rule.key] = accept(rule, text)
            except ValueError as problem:
                return InvalidSetting(rule.key, (f"{rule.name}: {problem}",))
        return await self._change(_with_mirror(accepted))

    async def reset(self, names: Iterable[str]) -> ChangeOutcome:
        """Forget what is stored, so that the file's values hold again; all or none.

        A stored key that this program does not know is removed only when named exactly.
        Raises:  TransientFailure: nothing was changed.
        """
        doomed: dict[str, str | None] = {}
        stored = await self.store.all()
        for name in names:
            rule = find_rule(name)
            if rule is None and name not in stored.values:
                return UnknownSetting(name)
            doomed[name if rule is None else rule.key] = None
        return await self._change(_with_mirror(doomed))

    async def _change(self, changes: Mapping[str, str | None]) -> ChangeOutcome:
        for _ in range(ATTEMPTS):
            stored = await self.store.all()
            merged = {**stored.values, **changes}
            wanted = {key: text for key, text in merged.items() if text is not None}
            # What did not fit before is not this change's fault, and must not keep it from mending.
            earlier = self.in_force.problems(stored.values)
            problems = [one for one in self.in_force.problems(wanted) if one not in earlier]
            if problems:
                return InvalidSetting(next(iter(changes), ""), tuple(problems))
            problems = [*await self.in_force.prepare(changes)]
            if problems:
                return InvalidSetting(next(iter(changes), ""), tuple(problems))
            after = await self.store.change(changes, stored.generation)
            if after is not None:
                self.in_force.follow(after)
                rules = [BY_KEY[key] for key in changes if key in BY_KEY]
                return Changed(after.generation, self._views(after, rules))
        return SettingsBusy()

    def _views(
        self, stored: StoredSettings, rules: Iterable[SettingRule]
    ) -> tuple[SettingView, ...]:
        replaced = overrides(stored.values, self.in_force.configured)
        bad = {one.key for one in replaced.bad}
        return tuple(
            SettingView(
                key=rule.key,
                name=rule.name,
                kind=rule.kind.value,
                value=_masked(rule, stored.values.get(rule.key, "")),
                effective=self._effective(rule, stored, replaced, bad),
                source=self._source(rule, is_followed=rule.key in {*stored.values} - bad),
                applies=rule.applies.value,
                is_set=rule.key in stored.values,
                is_pending=self.in_force.is_pending(rule.key),
            )
            for rule in rules
        )

    def _effective(
        self, rule: SettingRule, stored: StoredSettings, replaced: Overrides, bad: Set[str]
    ) -> str:
        if rule.key in _BEHIND:
            kept_s = replaced.values.get(_RETENTION, self.in_force.configured(_RETENTION))
            if rule.kind is Kind.BOOLEAN:
                return show(rule, bool(kept_s))
            return show(rule, kept_s or DEFAULT_RETENTION_S)
        if rule.config_key and rule.kind is not Kind.PORT:
            key = rule.config_key
            return show(rule, replaced.values.get(key, self.in_force.configured(key)))
        if rule.key in bad:
            return rule.default
        return _masked(rule, stored.values.get(rule.key, rule.default))

    def _source(self, rule: SettingRule, *, is_followed: bool) -> str:
        if is_followed:
            return "setting"
        key = _RETENTION if rule.key in _BEHIND else rule.config_key
        return self.in_force.origin(key) if key else "default"


def _masked(rule: SettingRule, text: str) -> str:
    return MASK if text and rule.kind is Kind.SECRET else text


def _unknown_view(key: str) -> SettingView:
    # Nobody knows whether it is a secret.
    return SettingView(
        key=key,
        name=key,
        kind="unknown",
        value=MASK,
        effective="",
        source="setting",
        applies=Applies.NOTHING.value,
        is_set=True,
        is_known=False,
    )


def _with_mirror(changes: Mapping[str, str | None]) -> dict[str, str | None]:
    """Have the older switch of push follow the mode (spec admin 3)."""
    mode = "__PUSH_MODE__"
    if mode not in changes:
        return dict(changes)
    text = changes[mode]
    return {**changes, "__PUSH_ENABLED__": text and ("false" if text == "off" else "true")}

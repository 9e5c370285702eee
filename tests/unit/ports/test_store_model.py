"""Any history of a store, as sessions see it, is that of a dictionary.

A hypothesis state machine drives the ports of every implementation. After every step each session
asks for its news the way the IMAP face does, and its client, which knows nothing but the lines it
was told, has to see what the model says: UIDs, flags, numbers, counters, sizes, contents.
"""

from __future__ import annotations

import shutil
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from chatmail.domain.model.mailbox import Flags
from tests.unit.ports import world
from tests.unit.ports.bench import is_server
from tests.unit.ports.choices import PEOPLE, flags
from tests.unit.ports.mailbox_rules import MailboxRules
from tests.unit.ports.message_rules import MessageRules
from tests.unit.ports.world import IMPLEMENTATIONS, NOW_S

STEPS_BETWEEN_RESTARTS = 6  # they take as long as twenty other steps


class StoreMachine(MessageRules, MailboxRules):
    """One store, two accounts, some sessions, and all that can happen to them."""

    @initialize(several=st.lists(flags, min_size=3, max_size=8))
    def begin(self, several: list[Flags]) -> None:
        """Some messages and mailboxes to work with."""
        self.create(("ann", "a"))
        self.create(("ann", "c"))
        for place, marks in enumerate(several):
            content, date_s = b"first %d" % place, NOW_S - place
            self.deliver([("ann", 0), (PEOPLE[place % 2], 0)], marks, content, date_s, False)
        self.select(("ann", 0), is_lazy=False)
        self.select(("ann", 0), is_lazy=True)

    # --- upkeep and trouble ----------------------------------------------------------------------

    @precondition(lambda self: self._stores.store is not None)
    @rule()
    def sweep(self) -> None:
        self._run(self._stores.store.sweep)
        self._run(self._check_queue)
        assert self._run(self._stores.store.recount) == 0

    @precondition(lambda self: self._keeps and self._steps >= self._reopen_at)
    @rule(loses_power=st.booleans())
    def restart(self, loses_power: bool) -> None:
        """The next store sees what was durable; after a power cut there is junk behind it."""
        before = self._state_dir
        loses_power = loses_power and not is_server(self._name)
        if loses_power:
            self._generation += 1
            self._files.left_by_a_power_cut(before, self._state_dir)
        self._run(self._close)
        if loses_power:
            shutil.rmtree(before)
        self._run(self._open)
        assert "content_missing" not in self._stores.log.events
        self._run(self._come_back)
        self._reopen_at = self._steps + STEPS_BETWEEN_RESTARTS


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_any_history_is_that_of_a_dictionary(name: str) -> None:
    is_steady = settings.default.derandomize
    if is_server(name) and (reason := world.postgres.missing()):
        pytest.skip(reason)
    steady_examples = 3 if is_server(name) else 10  # a server takes ten times as long
    run_state_machine_as_test(
        partial(StoreMachine, name),
        settings=settings(
            max_examples=steady_examples if is_steady else 300,
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
            # Making a history short takes minutes: `explore` does it.
            phases=(Phase.generate,) if is_steady else tuple(Phase),
        ),
    )

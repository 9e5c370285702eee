"""Port 25: another relay hands in a message.

The order of checks is that of federation-web.md B3: octets, header, From, own-domain spoof,
encryption, and only then authenticity. This release cannot verify DKIM yet, so whatever passes
up to there is put off with the temporary reply for "key not available": a peer keeps the message
and retries; nothing is lost, and nothing unauthenticated is let in.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from chatmail.domain.model.message import Envelope
from chatmail.domain.model.settings import SettingsSnapshot
from chatmail.domain.model.verdict import RefusalReason, Refuse
from chatmail.domain.policy.encryption_gate import DkimResult, GateContext, judge, needs_dkim
from chatmail.domain.usecases.collect import Collector


@attrs.frozen(kw_only=True)
class Receive:
    """The inbound door."""

    settings: Callable[[], SettingsSnapshot]

    async def __call__(self, envelope: Envelope, message: Collector) -> Refuse:
        """Judge one whole inbound message; always a refusal as yet."""
        settings = self.settings()
        facts = message.facts()
        context = GateContext(
            envelope=envelope,
            identity=None,
            settings=settings.gate,
            local_domains=settings.identity.local_domains,
        )
        if needs_dkim(facts, message.door, context):
            found = (
                DkimResult.UNAVAILABLE
                if b"dkim-signature" in facts.header_facts.names
                else DkimResult.NONE
            )
            context = attrs.evolve(context, dkim=found)
        verdict = judge(facts, message.door, context)
        if isinstance(verdict, Refuse):
            return verdict
        return Refuse(RefusalReason.DKIM_UNAVAILABLE)

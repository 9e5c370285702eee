"""The outbound queue in the operator's hands."""

from __future__ import annotations

import attrs

from chatmail.domain.model.federation import PeerHealth, TransportKind
from chatmail.domain.model.outbound import OutboundMessageId, QueueFilter
from chatmail.domain.usecases import manage_queue
from chatmail.domain.usecases.manage_queue import Diagnostic
from tests.unit.fakes.operator import Operator

ANN = "ann@chat.example"


async def test_the_state_counts_by_destination_and_tells_who_is_in_backoff() -> None:
    world = Operator()
    world.queue_mail(ANN, "b@dead.example", "c@dead.example", age_s=900)
    world.queue_mail(ANN, "d@live.example")
    now_s = world.clock.now_s()
    world.memory.remember(PeerHealth(domain="dead.example", not_before_s=now_s + 60))
    world.memory.remember(PeerHealth(domain="live.example", not_before_s=now_s - 60))
    state = await world.manage_queue().state()
    assert (state.entries, state.held, state.oldest_s) == (3, 0, int(now_s) - 900)
    shown = [
        (one.backlog.domain, one.backlog.entries, one.not_before_s) for one in (state.destinations)
    ]
    assert shown == [("dead.example", 2, now_s + 60), ("live.example", 1, 0.0)]


async def test_an_empty_queue_has_no_oldest() -> None:
    state = await Operator().manage_queue().state()
    assert (state.entries, state.oldest_s, state.destinations) == (0, None, ())


async def test_entries_are_filtered_and_paged() -> None:
    world = Operator()
    for name in "abc":
        world.queue_mail(f"{name}@chat.example", f"{name}@peer.example", "x@other.example")
    manage = world.manage_queue()
    page = await manage.page(QueueFilter(), 4)
    assert (len(page.entries), page.is_cut) == (4, True)
    last = page.entries[-1]
    rest = await manage.page(QueueFilter(), 4, (last.message.id, last.recipient))
    assert (len(rest.entries), rest.is_cut) == (2, False)
    only = await manage.page(QueueFilter(domain="peer.example"))
    assert [str(one.recipient) for one in only.entries] == [
        f"{name}@peer.example" for name in "abc"
    ]
    assert len((await manage.page(QueueFilter(sender="b@chat.example"))).entries) == 2


async def test_a_message_is_shown_without_content() -> None:
    world = Operator()
    id = world.queue_mail(ANN, "b@peer.example", "c@peer.example")
    found = await world.manage_queue().show(id)
    assert found is not None
    message, entries = found
    assert (message.id, len(entries)) == (id, 2)
    assert "secret" not in repr(found)
    assert await world.manage_queue().show(OutboundMessageId(99)) is None


async def test_a_retry_makes_entries_due_and_lifts_the_backoff() -> None:
    world = Operator()
    id = world.queue_mail(ANN, "b@dead.example")
    now_s = world.clock.now_s()
    world.memory.remember(
        PeerHealth(domain="dead.example", not_before_s=now_s + 3600, updated_s=int(now_s))
    )
    world.memory.remember(
        PeerHealth(domain="other.example", not_before_s=now_s + 3600, updated_s=int(now_s))
    )
    assert await world.manage_queue().retry(QueueFilter(message=id)) == 1
    assert world.memory.health("dead.example").not_before_s == 0
    assert world.memory.saves == 1
    assert world.memory.health("other.example").not_before_s == now_s + 3600
    assert len(await world.outbound.claim("dead.example", now_s, 60, 10)) == 1


async def test_everything_is_retried_when_nothing_is_said() -> None:
    world = Operator()
    world.queue_mail(ANN, "b@one.example", "c@two.example")
    until_s = world.clock.now_s() + 3600
    for domain in ("one.example", "two.example"):
        world.memory.remember(PeerHealth(domain=domain, not_before_s=until_s))
    assert await world.manage_queue().retry(QueueFilter()) == 2
    assert all(one.not_before_s == 0 for one in world.memory.all_health())


async def test_held_mail_waits_until_it_is_released() -> None:
    world = Operator()
    world.queue_mail(ANN, "b@peer.example", due_in_s=-1)
    manage, wanted = world.manage_queue(), QueueFilter(domain="peer.example")
    assert await manage.hold(wanted, is_held=True) == 1
    assert await world.outbound.claim("peer.example", world.clock.now_s(), 60, 10) == []
    assert await manage.hold(wanted, is_held=False) == 1
    assert len(await world.outbound.claim("peer.example", world.clock.now_s(), 60, 10)) == 1


async def test_what_is_removed_is_gone_without_a_report() -> None:
    world = Operator()
    world.queue_mail(ANN, "b@peer.example", "c@other.example")
    assert await world.manage_queue().remove(QueueFilter(domain="peer.example")) == 1
    assert (await world.manage_queue().state()).entries == 1
    assert world.state.reports == []


async def test_why_counts_what_was_said_most_frequent_first() -> None:
    world = Operator()
    for _ in range(3):
        world.queue_mail(ANN, "b@dead.example", reply="451 4.4.1 no connection")
    world.queue_mail(ANN, "c@dead.example", reply="450 4.2.0 greylisted")
    world.queue_mail(ANN, "d@dead.example")
    world.queue_mail(ANN, "e@other.example", reply="450 other")
    now_s = world.clock.now_s()
    health = PeerHealth(domain="dead.example", not_before_s=now_s + 90, connect_fail_streak=4)
    world.memory.remember(health)
    found = await world.manage_queue().why("dead.example")
    assert (found.entries, found.health, found.is_cut) == (5, health, False)
    assert found.diagnostics[0] == Diagnostic(
        reply="451 4.4.1 no connection",
        transport=TransportKind.SMTP,
        host="mx.peer.example",
        entries=3,
        last_s=int(now_s) - 30,
    )
    assert [(one.reply, one.entries) for one in found.diagnostics[1:]] == [
        ("450 4.2.0 greylisted", 1),
        ("", 1),
    ]


async def test_why_of_a_domain_nobody_writes_to_is_an_answer_too() -> None:
    found = await Operator().manage_queue().why("quiet.example")
    assert (found.entries, found.oldest_s, found.next_due_s) == (0, None, None)
    assert (found.override, found.record, found.diagnostics) == (None, None, ())


async def test_why_looks_at_a_bounded_number_of_entries(monkeypatch: object) -> None:
    world = Operator()
    for _ in range(5):
        world.queue_mail(ANN, "b@dead.example", reply="451 x")
    attrs_patch = {"PAGE": 2, "MAX_LOOKED_AT": 4}
    for name, value in attrs_patch.items():
        monkeypatch.setattr(manage_queue, name, value)  # type: ignore[attr-defined]
    found = await world.manage_queue().why("dead.example")
    assert (found.diagnostics[0].entries, found.is_cut) == (4, True)


async def test_nobody_is_named_in_the_log() -> None:
    world = Operator()
    world.queue_mail(ANN, "b@peer.example")
    manage = world.manage_queue()
    await manage.hold(QueueFilter(sender=ANN), is_held=True)
    await manage.retry(QueueFilter(sender=ANN))
    await manage.remove(QueueFilter(sender=ANN))
    assert world.log.events() == ["queue_held", "queue_retried", "queue_removed"]
    assert "@" not in repr(world.log.records)
    assert attrs.asdict(manage.settings().queue)

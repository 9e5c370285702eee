"""Collects one message while it arrives: scanned as it goes, held in memory or spooled.

Every door receives through a `Collector`, so no door can store what was not scanned.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self, TypeAlias

import attrs

from chatmail.domain.formats.body_digest import BodyDigests
from chatmail.domain.formats.facts import MessageFacts
from chatmail.domain.formats.message_scanner import MessageScanner
from chatmail.domain.model.errors import TransientFailure
from chatmail.domain.model.message import Body, Door
from chatmail.domain.ports.intake import BlobStore, Spool

IN_MEMORY_BYTES: Final = 256 * 1024
"""Up to here a message waits in memory; ARCHITECTURE: 1:1 chat never touches a spool file."""

JOINED_BYTES: Final = 4096
"""Shorter pieces are joined: held one by one, single octets would take forty times their size."""


DigestsFor: TypeAlias = Callable[[bytes], BodyDigests | None]
"""Header block → the hashes its content needs; None: none."""


class Collector:
    """One message on its way in. An async context manager: leaving it drops what was not stored."""

    def __init__(
        self,
        blobs: BlobStore,
        door: Door,
        max_bytes: int,
        held_bytes: int = IN_MEMORY_BYTES,
        *,
        digests: BodyDigests | None = None,
        digests_for: DigestsFor | None = None,
    ) -> None:
        self.door = door
        self._digests = digests
        self._digests_for = digests_for
        self._blobs = blobs
        self._max_bytes = max_bytes
        self._held_bytes = held_bytes
        self._scanner = MessageScanner(max_bytes=max_bytes)
        self._held: list[bytes] = []
        self._spool: Spool | None = None
        self._keeps = True
        self._has_failed = False
        self._stack: AsyncExitStack | None = None
        self._facts: MessageFacts | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.clear()
        if self._stack is not None:
            await self._stack.aclose()

    @property
    def size(self) -> int:
        """Octets fed so far."""
        return self._scanner.size

    @property
    def is_spooled(self) -> bool:
        """Say whether the message is on disk already, but for its header block."""
        return self._spool is not None

    @property
    def digests(self) -> BodyDigests | None:
        """Hashes of what follows the header block, as it arrived; None: nobody asked for any."""
        return self._digests

    async def feed(self, chunk: bytes) -> None:
        """Take the next octets (at most 64 KiB, dot-unstuffed, CRLF lines).

        Raises:  TransientFailure: the disk is full or failed; the message cannot be kept.
        """
        before, was_in_body = self._scanner.size, self._scanner.header is not None
        self._scanner.feed(chunk)
        if not self._keeps:
            return
        if self._scanner.size > self._max_bytes:
            await self._give_up()
            return
        self._digest(chunk, before, was_in_body)
        try:
            await self._keep(chunk)
        except TransientFailure:
            # What follows would land behind a gap, even if the disk has room again.
            self._has_failed = True
            await self._give_up()
            raise

    def _digest(self, chunk: bytes, before: int, was_in_body: bool) -> None:
        """Hash what of the chunk is content; `before`: octets that came before it."""
        if was_in_body:
            if self._digests is not None:
                self._digests.feed(chunk)
            return
        header = self._scanner.header
        if header is None:
            return
        if self._digests_for is not None:
            self._digests = self._digests_for(header)
        if self._digests is not None:
            self._digests.feed(chunk[len(header) - before :])

    async def _keep(self, chunk: bytes) -> None:
        if self._spool is not None:
            await self._spool.write(chunk)
            return
        if self._held and len(self._held[-1]) < JOINED_BYTES:
            self._held[-1] += chunk
        else:
            self._held.append(chunk)
        if self._scanner.size > self._held_bytes:
            await self._spill()

    async def _spill(self) -> None:
        header = self._scanner.header
        if header is None:
            if self._scanner.size > IN_MEMORY_BYTES:
                await self._give_up()  # a header block this long is refused whatever follows
            return
        self._stack = AsyncExitStack()
        self._spool = await self._stack.enter_async_context(self._blobs.spool())
        for chunk in self._content(len(header)):
            await self._spool.write(chunk)
        self._held.clear()

    async def _give_up(self) -> None:
        self._keeps = False
        self._held.clear()
        self._spool = None
        if self._stack is not None:
            await self._stack.aclose()
            self._stack = None

    def _content(self, skip: int) -> list[bytes | memoryview]:
        """What was held, without its first `skip` octets."""
        content: list[bytes | memoryview] = []
        for chunk in self._held:
            if skip >= len(chunk):
                skip -= len(chunk)
            else:
                content.append(memoryview(chunk)[skip:] if skip else chunk)
                skip = 0
        return content

    def facts(self) -> MessageFacts:
        """Finish scanning and say what was found. Idempotent."""
        if self._facts is None:
            self._facts = self._scanner.finish()
        return self._facts

    def header(self) -> bytes:
        """Return the header block as it arrived, with the empty line that ends it."""
        header = self._scanner.header
        if header is None:
            raise ValueError("the header block never ended")
        return header

    async def body(self, header: bytes) -> Body:
        """Return the message to store, its header block replaced by `header`.

        Only for a message whose facts were accepted: its header block is complete and it is
        no larger than allowed.
        Raises:  TransientFailure: it could not be kept, or not be sealed.
        """
        if self._has_failed:
            raise TransientFailure("the message could not be kept")
        if not self._keeps:
            raise ValueError("a refused message has no body to store")
        original = self.header()
        if self._spool is not None:
            return await self._spool.seal(header)
        return Body(
            header=header,
            chunks=tuple(self._content(len(original))),
            content_size=self._scanner.size - len(original),
        )


@attrs.frozen
class Collect:
    """Makes collectors.

    `digests_for` is asked once per inbound message, when its header is complete.
    """

    blobs: BlobStore
    digests_for: DigestsFor | None = None

    def __call__(
        self,
        door: Door,
        max_bytes: int,
        held_bytes: int = IN_MEMORY_BYTES,
        *,
        digests: BodyDigests | None = None,
    ) -> Collector:
        """Start receiving a message at `door`, at most `max_bytes` of it.

        `held_bytes`: up to here it waits in memory, at most 256 KiB. `digests`: hashes to make of
        the content, instead of asking `digests_for`.
        """
        return Collector(
            self.blobs,
            door,
            max_bytes,
            held_bytes,
            digests=digests,
            digests_for=self.digests_for if door.is_inbound and digests is None else None,
        )

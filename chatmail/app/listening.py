"""Which listeners are open: makes the wanted ones and closes the others, one at a time."""

from __future__ import annotations

import socket
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

import attrs
import trio

from chatmail.adapters.net.binding import bind, bound_address
from chatmail.adapters.net.errors import BindError
from chatmail.adapters.net.listeners import serve_listener
from chatmail.app.config_values import ListenAddress
from chatmail.domain.model.errors import LocalProtocolError

if TYPE_CHECKING:
    from chatmail.app.config_keys import BootConfig
    from chatmail.app.wiring import Relay


WEB: Final = ("http", "https")


@attrs.frozen
class _Open:
    """One listener that accepts: what it is bound to, and how to stop it."""

    addresses: tuple[tuple[str, int], ...]
    scope: trio.CancelScope
    is_closed: trio.Event

    async def close(self) -> None:
        """Refuse connections from now on."""
        self.scope.cancel()
        await self.is_closed.wait()


class Listening:
    """Listeners by (face, configured address)."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._open: dict[tuple[str, str], _Open] = {}
        self._accept: trio.Nursery | None = None
        self._sessions: trio.Nursery | None = None

    def live_in(self, accept: trio.Nursery, sessions: trio.Nursery) -> None:
        """Name the nurseries: where accepting happens and where connections live."""
        self._accept, self._sessions = accept, sessions

    def addresses(self) -> list[tuple[str, str, int]]:
        """Return (face, host, port) of everything bound, in the order of the configuration."""
        return [
            (face, host, port)
            for (face, _), listener in self._open.items()
            for host, port in listener.addresses
        ]

    async def follow(self, boot: BootConfig) -> None:
        """Open what `boot` wants and is not open, then close what it no longer wants.

        New ones are bound before old ones stop, which are closed when this returns; connections
        live on either way.
        Raises:  BindError: an address cannot be used; what was open stays open.
        """
        wanted = dict.fromkeys(
            (face, str(address))
            for face in self._relay.listeners
            for address in getattr(boot.listen, face)
        )
        self._recognise(wanted)
        await self._open_new([key for key in wanted if key not in self._open])
        for key in [key for key in self._open if key not in wanted]:
            await self._open.pop(key).close()
        self._open = {key: self._open[key] for key in wanted}
        addresses = self.addresses()
        self._relay.site.bound({face: port for face, _, port in reversed(addresses)})
        self._relay.federation.reach.bound((host, port) for _, host, port in addresses)

    async def open_early(self, boot: BootConfig) -> tuple[str, ...]:
        """Open what `boot` wants of the web faces besides what is open; `follow` closes the rest.

        Returns:  why it cannot be; empty: it is open.
        """
        known = {
            (face, str(ListenAddress(*address)))
            for (face, _), listener in self._open.items()
            for address in listener.addresses
        }
        wanted = ((face, str(one)) for face in WEB for one in getattr(boot.listen, face))
        try:
            await self._open_new(
                [key for key in wanted if key not in self._open and key not in known]
            )
        except BindError as error:
            return (str(error),)
        return ()

    async def _open_new(self, new: Sequence[tuple[str, str]]) -> None:
        """Open listeners, all of them or none."""
        bound: list[list[socket.socket]] = []
        try:
            for _, address in new:
                bound.append(bind(address))
        except BindError:
            for sock in (sock for sockets in bound for sock in sockets):
                sock.close()
            raise
        for key, sockets in zip(new, bound, strict=True):
            await self._start(key, sockets)

    def _recognise(self, wanted: Collection[tuple[str, str]]) -> None:
        """Keep listeners whose address is only written in another way now.

        Port 0 that became the port it got, for one: binding that anew could only fail.
        """
        unclaimed = {
            (face, str(ListenAddress(*listener.addresses[0]))): (face, address)
            for (face, address), listener in self._open.items()
            if (face, address) not in wanted and len(listener.addresses) == 1
        }
        for key in wanted:
            if key not in self._open and key in unclaimed:
                self._open[key] = self._open.pop(unclaimed[key])

    async def _start(self, key: tuple[str, str], sockets: list[socket.socket]) -> None:
        accept, sessions = self._accept, self._sessions
        if accept is None or sessions is None:
            raise LocalProtocolError("live_in comes first")
        scope, is_closed = trio.CancelScope(), trio.Event()
        addresses = tuple(bound_address(sock) for sock in sockets)

        async def accepting(*, task_status: trio.TaskStatus[list[tuple[str, int]]]) -> None:
            try:
                with scope:
                    await serve_listener(
                        sockets,
                        self._relay.listeners[key[0]],
                        self._relay.keeper,
                        self._relay.turns,
                        sessions,
                        self._relay.log,
                        task_status=task_status,
                    )
            finally:
                is_closed.set()

        await accept.start(accepting)
        self._open[key] = _Open(addresses, scope, is_closed)

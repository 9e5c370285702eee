"""What can go wrong below a face: the peer is gone, an address is taken, a certificate is bad.

Library and system errors are translated here once; nothing above sees `ssl`, `OSError` or Trio's
stream errors. No text names a peer.
"""

from __future__ import annotations

from typing import Final

import trio

from chatmail.domain.model.errors import ChatmailError, PermanentFailure


class PeerGone(ChatmailError):
    """The connection is over: reset, torn, timed out, or filled with garbage. A quiet end."""


class BindError(PermanentFailure):
    """An address cannot be listened on. The message is one line for the operator."""


class CertificateError(PermanentFailure):
    """A certificate or key cannot be used. The message names the file and the reason."""


TRANSPORT_ERRORS: Final = (trio.BrokenResourceError, trio.ClosedResourceError)
"""What a transport raises when its connection is over."""

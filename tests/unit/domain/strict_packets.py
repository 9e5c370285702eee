"""The OpenPGP half of the strict parser: armor and packets, octet by octet.

Like the other half it is slow and simple and shares no code with the gate.
"""

from __future__ import annotations

import string

ALPHABET = (string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/").encode()


class Bad(Exception):
    """The message breaks a rule."""


def need(claim: object) -> None:
    """Refuse the message unless the claim holds."""
    if not claim:
        raise Bad


def read_base64(text: bytes) -> bytes:
    bare = text.rstrip(b"=")
    need(len(text) - len(bare) <= 2 and len(text) % 4 == 0)
    bits, count, octets = 0, 0, bytearray()
    for octet in bare:
        need(octet in ALPHABET)
        bits = bits << 6 | ALPHABET.index(octet)
        count += 6
        if count >= 8:
            count -= 8
            octets.append(bits >> count & 0xFF)
            bits &= (1 << count) - 1
    return bytes(octets)


def read_armor(text: bytes, inbound: bool) -> bytes:
    lines = text.split(b"\r\n")
    begin = 0
    while begin < len(lines) and not lines[begin].strip(b" \t"):
        begin += 1
    need(begin <= 8 and begin < len(lines))
    need(lines[begin].rstrip(b" \t") == b"-----BEGIN PGP MESSAGE-----")
    at, headers = begin + 1, 0
    while at < len(lines) and b":" in lines[at]:
        name, _, value = lines[at].partition(b": ")
        need(inbound and name in (b"Version", b"Comment", b"Charset", b"MessageID", b"Hash"))
        need(b": " in lines[at] and len(lines[at]) <= 100)
        need(all(32 <= octet <= 126 for octet in value))
        headers, at = headers + 1, at + 1
    need(headers <= 4 and at < len(lines))
    if not lines[at].strip(b" \t"):
        at += 1
    else:
        need(headers == 0)
    data: list[bytes] = []
    while at < len(lines) and lines[at][:1] not in (b"", b"-", b"=", b" ", b"\t"):
        data.append(lines[at].rstrip(b" \t"))
        need(data[-1] and all(octet in ALPHABET or octet == ord("=") for octet in data[-1]))
        need(all(b"=" not in line for line in data[:-1]))
        at += 1
    octets = read_base64(b"".join(data))
    need(octets)
    if at < len(lines) and lines[at][:1] == b"=":
        line = lines[at].rstrip(b" \t")
        need(len(line) == 5 and all(octet in ALPHABET for octet in line[1:]))
        need(inbound or read_base64(line[1:]) == crc(octets))
        at += 1
    blank = 0
    while at < len(lines) and not lines[at].strip(b" \t"):
        blank, at = blank + 1, at + 1
    need(blank <= 2 and at < len(lines))
    need(lines[at].rstrip(b" \t") == b"-----END PGP MESSAGE-----")
    need(all(len(line) <= 998 for line in lines[: at + 1]))
    after = b"\r\n".join(lines[at + 1 :])
    need(len(after) <= 16 and not after.strip(b" \t\r\n"))
    return octets


def crc(octets: bytes) -> bytes:
    register = 0xB704CE
    for octet in octets:
        register ^= octet << 16
        for _ in range(8):
            register = register << 1 ^ (0x1864CFB if register & 0x800000 else 0)
    return (register & 0xFFFFFF).to_bytes(3, "big")


def read_packets(octets: bytes) -> None:
    at, versions = 0, []
    while True:
        need(at < len(octets) and octets[at] & 0x80)
        if octets[at] & 0x40:
            tag, kind = octets[at] & 63, -1
        else:
            tag, kind = octets[at] >> 2 & 15, octets[at] & 3
        need(tag in (1, 3, 18))
        if tag == 18:
            break
        if kind >= 0:
            need(kind < 3)
            size, at = number(octets, at + 1, 1 << kind), at + 1 + (1 << kind)
        else:
            size, partial, at = new_length(octets, at + 1)
            need(not partial)
        need(0 < size <= 4096 and at + size <= len(octets))
        body = octets[at : at + size]
        versions.append(body[0])
        read_pkesk(body) if tag == 1 else read_skesk(body)
        at += size
    need(versions and len(versions) <= 5000)
    read_seipd(octets, at + 1, set(versions))


def number(octets: bytes, at: int, size: int) -> int:
    need(at + size <= len(octets))
    return int.from_bytes(octets[at : at + size], "big")


def new_length(octets: bytes, at: int) -> tuple[int, bool, int]:
    first = number(octets, at, 1)
    if first < 192:
        return first, False, at + 1
    if first < 224:
        return (first - 192) * 256 + number(octets, at + 1, 1) + 192, False, at + 2
    if first < 255:
        return 2 ** (first % 32), True, at + 1
    return number(octets, at + 1, 4), False, at + 5


def read_seipd(octets: bytes, at: int, versions: set[int]) -> None:
    body, partial, chunks, small = b"", True, 0, 0
    while partial:
        size, partial, at = new_length(octets, at)
        need(at + size <= len(octets))
        if partial and size < 512:
            small += 1
            need(chunks > 0 and small <= 256)
        body += octets[at : at + size]
        at += size
        chunks += 1
    need(at == len(octets) and body)
    if body[0] == 1:
        need(len(body) >= 41 and versions <= {3, 4})
    else:
        need(body[0] == 2 and len(body) >= 52 and versions <= {6})
        need(body[1] in (1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13))
        need(body[2] in (1, 2, 3) and body[3] <= 16)


def read_pkesk(body: bytes) -> None:
    if body[0] == 3:
        at = 9
    else:
        need(body[0] == 6 and len(body) > 2)
        length = body[1]
        need(length == 0 or (length == 21 and body[2] == 4) or (length == 33 and body[2] in (5, 6)))
        at = 2 + length
    need(at < len(body))
    algorithm, data = body[at], body[at + 1 :]
    need(algorithm not in (0, 3, 17, 19, 22, 27, 28))
    if algorithm in (1, 2):
        need(len(data) >= 2 and number(data, 0, 2) >= 512 and drop_mpi(data) == b"")
    elif algorithm == 16:
        need(drop_mpi(drop_mpi(data)) == b"")
    elif algorithm in (18, 25, 26):
        rest = drop_mpi(data) if algorithm == 18 else data[{25: 32, 26: 56}[algorithm] :]
        need(rest and rest[0] == len(rest) - 1)
    else:
        need(len(data) >= 32)


def drop_mpi(data: bytes) -> bytes:
    bits = number(data, 0, 2)
    size = -(-bits // 8)
    need(bits and 2 + size <= len(data))
    need(int.from_bytes(data[2 : 2 + size], "big").bit_length() == bits)
    return data[2 + size :]


def read_skesk(body: bytes) -> None:
    s2k_sizes = {0: 2, 1: 10, 3: 11, 4: 20}
    ciphers = (1, 2, 3, 4, 7, 8, 9, 10, 11, 12, 13)
    if body[0] == 4:
        need(len(body) > 2 and body[1] in ciphers and body[2] in s2k_sizes)
        rest = len(body) - 2 - s2k_sizes[body[2]]
        need(rest == 0 or 17 <= rest <= 33)
        return
    need(body[0] == 6 and len(body) > 5 and body[2] in ciphers and body[3] in (1, 2, 3))
    need(s2k_sizes.get(body[5]) == body[4])
    nonce = {1: 16, 2: 15, 3: 12}[body[3]]
    need(body[1] == 3 + body[4] + nonce)
    need(len(body) in [2 + body[1] + key + 16 for key in (16, 24, 32)])

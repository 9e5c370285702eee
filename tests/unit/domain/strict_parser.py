"""A second, slow and simple parser of encrypted messages, to hold the gate against.

It works on the whole message, line by line and octet by octet, and shares no code with the gate.
`accepts()` says whether a message obeys P, H, M, A and O without the size limit and O-20.
"""

from __future__ import annotations

import string

ALPHABET = (string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/").encode()
TOKEN = bytes(o for o in range(33, 127) if o not in b'()<>@,;:\\"/[]?=')
HEX = b"0123456789ABCDEFabcdef"


class Bad(Exception):
    """The message breaks a rule."""


def need(claim: object) -> None:
    """Refuse the message unless the claim holds."""
    if not claim:
        raise Bad


def accepts(message: bytes, *, inbound: bool) -> bool:
    """Say whether the message is well-formed and encrypted, for inbound or for our own doors."""
    try:
        read_message(message, inbound)
    except Bad:
        return False
    return True


def read_message(message: bytes, inbound: bool) -> None:
    lines = message.split(b"\r\n")
    for line in lines:
        need(not any(octet in line for octet in (b"\r", b"\n", b"\0")))
    need(b"" in lines[:-1])
    end = lines.index(b"")
    fields = read_header(lines[:end], inbound)
    kind, parameters = read_content_type(fields.get(b"content-type", b"text/plain"))
    need(fields.get(b"content-transfer-encoding", b"7bit").lower() in (b"7bit", b"8bit"))
    need(kind == b"multipart/encrypted")
    boundary = parameters.get(b"boundary", b"")
    allowed = (string.ascii_letters + string.digits + "'()+_,-./:=? ").encode()
    need(1 <= len(boundary) <= 70 and not boundary.endswith(b" "))
    need(all(octet in allowed for octet in boundary))
    need(
        parameters.get(b"protocol", b"application/pgp-encrypted").lower()
        == b"application/pgp-encrypted"
    )
    read_multipart(lines[end + 1 :], boundary, inbound)


def read_header(lines: list[bytes], inbound: bool) -> dict[bytes, bytes]:
    need(len(b"\r\n".join([*lines, b"", b""])) <= 65536)
    need(all(len(line) <= 998 for line in lines))
    raw = read_fields(lines)
    need(len(raw) <= 256)
    structured = b"""from sender reply-to to cc bcc date message-id in-reply-to references
        return-path delivered-to received mime-version content-type content-transfer-encoding
        content-disposition content-id autocrypt auto-submitted dkim-signature
        authentication-results secure-join secure-join-invitenumber secure-join-group
        autocrypt-setup-message""".split()
    once = b"""from sender content-type content-transfer-encoding mime-version date message-id
        secure-join secure-join-invitenumber autocrypt""".split()
    if not inbound:
        once += [b"subject", b"to", b"cc"]
    names = [name for name, _ in raw]
    for name in once:
        need(names.count(name) <= 1)
    for name, value in raw:
        need(len(name) + 1 + len(value) <= 32768)
        if any(octet >= 128 for octet in value):
            need(inbound and name not in structured and not name.startswith(b"resent-"))
    return {name: value.strip(b" \t") for name, value in reversed(raw)}


def read_fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            need(fields)
            name, value = fields.pop()
            fields.append((name, value + line))
        else:
            name, colon, value = line.partition(b":")
            need(colon and name and all(33 <= octet <= 126 for octet in name))
            fields.append((name.lower(), value))
    return fields


def read_content_type(value: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    kind, value = take_token(value)
    need(value[:1] == b"/")
    subtype, value = take_token(value[1:])
    parameters: dict[bytes, bytes] = {}
    while value.strip(b" \t"):
        value = value.lstrip(b" \t")
        need(value[:1] == b";")
        value = value[1:].lstrip(b" \t")
        if not value:
            break
        name, value = take_token(value)
        name = name.lower()
        need(value[:1] == b"=" and b"*" not in name and name not in parameters)
        if value[1:2] == b'"':
            parameters[name], value = take_quoted(value[2:])
        else:
            parameters[name], value = take_token(value[1:])
    return (kind + b"/" + subtype).lower(), parameters


def take_token(value: bytes) -> tuple[bytes, bytes]:
    size = 0
    while size < len(value) and value[size] in TOKEN:
        size += 1
    need(size)
    return value[:size], value[size:]


def take_quoted(value: bytes) -> tuple[bytes, bytes]:
    text, at = b"", 0
    while True:
        need(at < len(value))
        octet = value[at : at + 1]
        if octet == b'"':
            return text, value[at + 1 :]
        if octet == b"\\":
            at += 1
            octet = value[at : at + 1]
        need(octet and (32 <= octet[0] <= 126 or octet == b"\t"))
        text += octet
        at += 1


def is_delimiter(line: bytes, boundary: bytes) -> str:
    if not line.startswith(b"--" + boundary):
        return ""
    rest = line[2 + len(boundary) :].rstrip(b" \t")
    lead = line[2 + len(boundary) :]
    lead = lead[2:] if lead.startswith(b"--") else lead
    need(len(line) - len(lead.lstrip(b" \t")) <= 998)
    return {b"": "next", b"--": "close"}.get(rest, "")


def read_multipart(lines: list[bytes], boundary: bytes, inbound: bool) -> None:
    groups: list[list[bytes]] = [[]]
    for at, line in enumerate(lines):
        kind = is_delimiter(line, boundary)
        if kind == "close":
            epilogue = b"\r\n".join(lines[at + 1 :])
            break
        if kind == "next":
            groups.append([])
        else:
            groups[-1].append(line)
    else:
        raise Bad
    preamble, *parts = groups
    need(len(preamble) <= 4 and not b"".join(preamble).strip(b" \t"))
    need(sum(map(len, preamble)) + 2 * len(preamble) <= 4000)
    need(len(parts) == 2)
    need(len(epilogue) <= 64 and not epilogue.strip(b" \t\r\n"))
    control = read_part(parts[0], b"application/pgp-encrypted", inbound, second=False)
    need(control.strip(b" \t\r\n") == b"Version: 1")
    read_packets(
        read_armor(read_part(parts[1], b"application/octet-stream", inbound, second=True), inbound)
    )


def read_part(lines: list[bytes], kind: bytes, inbound: bool, *, second: bool) -> bytes:
    need(b"" in lines)
    end = lines.index(b"")
    need(len(b"\r\n".join([*lines[:end], b"", b""])) <= 2048)
    raw = read_fields(lines[:end])
    need(len(raw) <= 8 and len({name for name, _ in raw}) == len(raw))
    usual = b"""content-type content-transfer-encoding content-description content-disposition
        content-id mime-version""".split()
    for line in lines[:end]:
        need(len(line) <= 998 and max(line, default=0) < 128)
    sizes = field_sizes(lines[:end])
    for (name, _), size in zip(raw, sizes, strict=True):
        need(name in usual or (inbound and size <= 256))
    fields = {name: value.strip(b" \t") for name, value in raw}
    need(read_content_type(fields.get(b"content-type", b"text/plain"))[0] == kind)
    encoding = fields.get(b"content-transfer-encoding", b"7bit").lower()
    body = lines[end + 1 :]
    if not second:
        need(len(b"\r\n".join(body)) <= 64)
    if encoding in (b"7bit", b"8bit"):
        return b"\r\n".join(body)
    need(inbound or not second)
    need(encoding in (b"base64", b"quoted-printable"))
    need(all(len(line) <= 998 for line in body))
    return read_base64(b"".join(body)) if encoding == b"base64" else read_quoted(body)


def field_sizes(lines: list[bytes]) -> list[int]:
    sizes: list[int] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            sizes[-1] += len(line) + 2
        else:
            sizes.append(len(line) + 2)
    return sizes


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


def read_quoted(lines: list[bytes]) -> bytes:
    text = b""
    for at, line in enumerate(lines):
        line = line.rstrip(b" \t")
        out, position, soft = b"", 0, False
        while position < len(line):
            octet = line[position]
            if octet != ord("="):
                need(32 <= octet <= 126 or octet == 9)
                out += bytes([octet])
                position += 1
            elif position == len(line) - 1:
                need(line == lines[at] and at < len(lines) - 1)
                soft, position = True, position + 1
            else:
                pair = line[position + 1 : position + 3]
                need(len(pair) == 2 and all(digit in HEX for digit in pair))
                out += bytes([int(pair, 16)])
                position += 3
        text += out + (b"" if soft or at == len(lines) - 1 else b"\r\n")
    return text


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

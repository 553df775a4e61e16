"""Messages to disagree about: made from a seed, good ones and damaged ones.

A message is everything one client sends on one connection: up to three requests. Good pieces are chosen
often enough that most messages are nearly right, because parsers agree about noise.
"""

from __future__ import annotations

from random import Random

METHODS = ["GET", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "M-SEARCH", "get", "X", "CONNECT"]
TARGETS = ["/", "/a?b=c", "/%20/x", "//a/b", "/a;b=c", "*", "http://a.example/x", "a.example:80", "/#f", "/\u00e4", "x"]
VERSIONS = (
    ["HTTP/1.1"] * 12 + ["HTTP/1.0"] * 3 + ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1 ", "http/1.1", "HTTP/11"]
)
HEADERS = [
    "Accept: */*",
    "User-Agent: x/1",
    "X-Empty:",
    "X-Spaces:  \t a b \t ",
    "X-Tab: a\tb",
    "X-Latin: \u00e4",
    "x!#$%&'*+-.^`|~9: token",
    "Connection: keep-alive",
    "Connection: close",
    "Connection: Close, TE",
    "Expect: 100-continue",
    "Content-Type: text/plain",
    "Upgrade: x",
    "TE: trailers",
]
ODD_HEADERS = [
    "X_Under: x",
    "Host: b.example",
    "Host: a b",
    "Content-Type: a/b\r\nContent-Type: c/d",
    "Expect: 200-ok",
    "Content-Length: 5",
    "Content-Length: +5",
    "Content-Length: 5, 5",
    "Content-Length: 5\r\nContent-Length: 5",
    "Content-Length: 99999999999999999999999",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: CHUNKED",
    "X: a\r\n folded",
    "X : space",
    ": no name",
    "no colon",
    "X: control \x01",
    "X: nul \0",
    "X y: z",
    " X: leading space",
]
SIZES = ["{:x}", "{:X}", "0{:x}", "{:x};a", "{:x} ; a = b", '{:x};a="q\\"d;"']
ODD_SIZES = ["{:x} ", "0x{:x}", "+{:x}", "{:x};", "{:x};a=", "{:x};a\x01", "{:x}\u00e4", "-{:x}", "{:x},"]
TRAILERS = ["X-Sum: 1", "X_Under: x", "Content-Length: 5", "Host: x", "X : y", "no colon"]
SPICE = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\x0b", b"\x7f", b"\xff", b"0", b"a", b'"', b"_"]


def message(random: Random) -> bytes:
    requests = [_request(random) for _ in range(random.choice([1, 1, 2, 3]))]
    text = b"".join(requests)
    for _ in range(random.choice([0, 0, 0, 1, 1, 2])):
        text = _damaged(text, random)
    return text


def _request(random: Random) -> bytes:
    lead = random.choice([""] * 20 + ["\r\n", "\r\n\r\n", "\n"])
    line = f"{_often(random, METHODS, 2)} {_often(random, TARGETS, 5)} {_often(random, VERSIONS, 1)}"
    headers = [] if random.random() < 0.03 else ["Host: a.example"]
    headers += random.sample(HEADERS, random.randrange(4))
    if random.random() < 0.2:
        headers.append(random.choice(ODD_HEADERS))
    body = ""
    kind = random.random()
    if kind < 0.3:
        body = _chunked(random)
        headers.append("Transfer-Encoding: chunked")
    elif kind < 0.55:
        body = random.choice(["", "hello", "0\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"])
        headers.append(f"Content-Length: {len(body)}")
    random.shuffle(headers)
    return (lead + "\r\n".join([line, *headers]) + "\r\n\r\n" + body).encode("latin-1")


def _chunked(random: Random) -> str:
    body = ""
    for _ in range(random.randrange(3)):
        data = random.choice(["x", "hello", "\r\n", "0\r\n\r\n"])
        size = random.choice(ODD_SIZES if random.random() < 0.1 else SIZES).format(len(data))
        body += f"{size}\r\n{data}\r\n"
    last = random.choice(["0"] * 8 + ["00", "0;a", "0 "])
    trailers = random.sample(TRAILERS, random.choice([0, 0, 0, 1, 2]))
    return "\r\n".join([body + last, *trailers]) + "\r\n\r\n"


def _often(random: Random, choices: list[str], common: int) -> str:
    """Nine times in ten one of the first ``common`` choices."""
    return random.choice(choices[:common] if random.random() < 0.9 else choices)


def _damaged(text: bytes, random: Random) -> bytes:
    at = random.randrange(len(text) + 1)
    spice = random.choice(SPICE)
    match random.randrange(5):
        case 0:
            return text[:at] + spice + text[at:]
        case 1:
            return text[:at] + spice + text[at + 1 :]
        case 2:
            return text[:at] + text[at + 1 :]
        case 3:
            return text[:at] + text[at : at + 1] + text[at:]
        case _:
            return text[:at]

"""RFC 7541: field blocks as the server reads and writes them."""

from __future__ import annotations

import json

import hpack
import pytest
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from tests.support import http2
from tests.support.http2 import (
    COMPRESSION_ERROR,
    INCREMENTAL,
    INTERNAL_ERROR,
    PROTOCOL_ERROR,
    Http2,
    block,
    headers,
    indexed,
    integer,
    literal,
    request,
    string,
    table_size,
)

pytestmark = pytest.mark.usefixtures("oxicorn_only")

GET = block(request())
#: The static table (appendix A) has so many entries; what is entered comes behind it.
STATIC = 61
NAME = "x-name"


def huffman(text: str) -> bytes:
    """A string in Huffman's code (5.2)."""
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text.encode())
    return integer(len(coded), 7, 0x80) + coded


def raw_huffman(bits: str) -> bytes:
    """A string that says it is Huffman's code and is these bits."""
    coded = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return integer(len(coded), 7, 0x80) + coded


#: "a" is 00011 (appendix B), the end of a string thirty ones, which pad what is left of a byte.
ERRORS = [
    ("2.3.3 an index beyond the tables", GET + indexed(STATIC + 1)),
    ("2.3.3 an index far beyond", GET + indexed(10_000)),
    ("6.1 the index 0", GET + b"\x80"),
    ("6.2.1 a name beyond the tables", GET + integer(STATIC + 1, 6, 0x40) + string("1")),
    ("4.2 a table larger than was offered", table_size(4097) + GET),
    ("4.2 a size behind a field", GET + table_size(0)),
    ("5.1 a number without an end", GET + b"\x7f" + b"\xff" * 12),
    ("5.1 a number that is cut", GET + b"\x7f\x80"),
    ("5.2 a string that is cut", GET + b"\x00\x06x-n"),
    ("5.2 a string longer than the block", GET + b"\x00" + integer(5000, 7) + b"x"),
    ("5.2 padding of eight bits", GET + b"\x00" + string(NAME) + raw_huffman("00011" + "1" * 11)),
    ("5.2 padding of zeros", GET + b"\x00" + string(NAME) + raw_huffman("00011" + "0" * 3)),
    ("5.2 the end of a string within it", GET + b"\x00" + string(NAME) + raw_huffman("1" * 32)),
    ("5.2 nothing but padding, a byte of it", GET + b"\x00" + string(NAME) + raw_huffman("1" * 8)),
]


@pytest.mark.parametrize(("rule", "sent"), ERRORS, ids=[rule for rule, _ in ERRORS])
def test_what_cannot_be_decoded_ends_the_connection(peer, rule, sent):
    """RFC 9113 section 4.3: the tables of both ends would differ from now on."""
    peer.send(headers(1, sent))
    assert peer.ends() in {COMPRESSION_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR}, rule
    assert peer.is_closed


def told(peer: Http2, sent: bytes) -> dict:
    stream = peer.open()
    peer.send(headers(stream, sent))
    found = peer.response(stream)
    assert found.status == 200, found
    return json.loads(found.body)


def test_huffmans_code_is_read(peer):
    every = "".join(chr(number) for number in range(0x21, 0x7F))
    sent = GET + b"\x00" + huffman(NAME) + huffman(every)
    assert told(peer, sent)["HTTP_X_NAME"] == every


def test_a_request_of_the_static_table(peer):
    """GET, http and / are 2, 6 and 4; a name may be of the table with a value of one's own (6.2)."""
    sent = indexed(2) + indexed(6) + indexed(4) + integer(1, 4) + string("shop.example")
    assert told(peer, sent)["HTTP_HOST"] == "shop.example"
    # A name that is never indexed, and one that is entered.
    for prefix, bits in ((0x10, 4), (0x40, 6)):
        sent = indexed(2) + indexed(6) + indexed(4) + integer(1, bits, prefix) + string("b.example")
        assert told(peer, sent)["HTTP_HOST"] == "b.example"
    assert told(peer, indexed(2) + indexed(6) + indexed(4) + indexed(STATIC + 1))["HTTP_HOST"] == "b.example"


def test_what_was_entered_is_found_by_its_place(peer):
    """2.3.2: the newest is first; 2.3.3: what is behind moves on with each entry."""
    for number in range(3):
        told(peer, GET + literal(NAME, str(number), INCREMENTAL))
    for back in range(3):
        assert told(peer, GET + indexed(STATIC + 1 + back))["HTTP_X_NAME"] == str(2 - back)


def test_old_entries_give_way(peer):
    """4.4: those that find no room, from the oldest on; an entry costs 32 bytes beside its own."""
    size = len(NAME) + 1000 + 32
    kept = 4096 // size
    for number in range(6):
        told(peer, GET + literal(NAME, str(number) * 1000, INCREMENTAL))
    assert told(peer, GET + indexed(STATIC + kept))["HTTP_X_NAME"] == str(6 - kept) * 1000
    peer.send(headers(peer.open(), GET + indexed(STATIC + kept + 1)))
    assert peer.ends() in {COMPRESSION_ERROR, PROTOCOL_ERROR}


def test_an_entry_larger_than_the_table_empties_it(peer):
    """4.4: that is no error."""
    told(peer, GET + literal(NAME, "1", INCREMENTAL))
    assert told(peer, GET + literal(NAME, "x" * 5000, INCREMENTAL))["HTTP_X_NAME"] == "x" * 5000
    peer.send(headers(peer.open(), GET + indexed(STATIC + 1)))
    assert peer.ends() in {COMPRESSION_ERROR, PROTOCOL_ERROR}


def test_a_table_is_emptied_and_used_again(peer):
    """4.2, 4.3: sizes come before the fields; more than one may."""
    told(peer, GET + literal(NAME, "1", INCREMENTAL))
    assert told(peer, table_size(0) + table_size(4096) + GET + literal(NAME, "2", INCREMENTAL))["HTTP_X_NAME"] == "2"
    assert told(peer, GET + indexed(STATIC + 1))["HTTP_X_NAME"] == "2"
    peer.send(headers(peer.open(), GET + indexed(STATIC + 2)))
    assert peer.ends() in {COMPRESSION_ERROR, PROTOCOL_ERROR}


def test_fields_of_a_refused_stream_are_in_the_table_all_the_same(connect):
    """RFC 9113 section 4.3: whatever becomes of a stream, its block is decoded."""
    peer = connect()
    stream = peer.open()
    peer.send(headers(stream, GET + literal("connection", "close") + literal(NAME, "1", INCREMENTAL)))
    peer.outcome(stream)
    assert told(peer, GET + indexed(STATIC + 1))["HTTP_X_NAME"] == "1"


# What the server writes.


def test_responses_use_no_more_table_than_the_client_has(connect):
    """4.2, RFC 9113 section 6.5.2: the decoder here knows what was offered, and is strict about it."""
    peer = connect(own=[(http2.HEADER_TABLE_SIZE, 0)])
    for _ in range(5):
        assert peer.get("/cookies").status == 200
    assert peer.decoder.header_table_size == 0


def test_a_smaller_table_is_announced_before_it_is_used(connect):
    """4.2: a size update comes first in the block behind the acknowledgement."""
    peer = connect()
    for _ in range(3):
        assert peer.get("/cookies").all("x-token") == ["x" * 3000]
    before = peer.acknowledged
    peer.decoder.max_allowed_table_size = 100
    peer.send(http2.settings((http2.HEADER_TABLE_SIZE, 100)))
    peer.wait(lambda: peer.acknowledged > before)
    for _ in range(3):
        assert peer.get("/cookies").all("x-token") == ["x" * 3000]
    assert peer.decoder.header_table_size <= 100


def test_fields_that_repeat_are_short(peer):
    """The table is for that: the second head of the same fields is a fraction of the first."""
    sizes = []
    for _ in range(3):
        begun = len(peer.frames)
        peer.get("/cookies")
        sizes.append(sum(len(one.payload) for one in peer.frames[begun:] if one.kind == http2.HEADERS))
    assert sizes[-1] < sizes[0] / 2


def test_the_decoder_here_refuses_what_it_should():
    """What the tests above rely on."""
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 100
    with pytest.raises(hpack.HPACKError):
        decoder.decode(GET)

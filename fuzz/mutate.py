"""Seeded mutations of bytes and texts. Not coverage-guided: what is fuzzed are small parsers, and a million cheap
inputs from good corpora reach them whole. The same seed and number give the same input, on every machine.
"""

from __future__ import annotations

__all__ = ("TEXT_ALPHABET", "bytes_like", "text_like")

from random import Random

# Lengths and numbers at which parsers break: borders of their types.
_BORDERS = (0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0x7FFFFFFF, 0xFFFFFFFF)
# What texts of ours are made of, what looks like it, and what terminals and parsers choke on.
TEXT_ALPHABET = (
    *"abcxyz0129.-_[]()&|!@,:/*?= \t\n\"'#{}\\<>",
    *"\x00\x07\x1b\x7f\x85\x9b\u00e9\u0430\u0435\u2028\u202e\ufeff\uff0a\u0660\U0001f600\ud800",
)


def bytes_like(random: Random, corpus: list[bytes]) -> bytes:
    """One of `corpus`, changed in a few places; seldom unchanged, seldom noise."""
    draw = random.random()
    if draw < 0.03:
        return random.randbytes(random.randrange(200))
    data = bytearray(random.choice(corpus))
    for _ in range(random.choice((0, 1, 1, 1, 2, 3, 8))):
        at = random.randrange(len(data) + 1)
        kind = random.randrange(9)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << random.randrange(8)
        elif kind == 1 and data:
            data[at % len(data)] = random.randrange(256)
        elif kind == 2:
            del data[at : at + random.choice((1, 1, 2, 4, 16, 1000))]
        elif kind == 3:
            data[at:at] = random.randbytes(random.choice((1, 1, 2, 4, 16)))
        elif kind == 4:
            data[at:at] = data[at : at + random.randrange(64)]
        elif kind == 5:
            size = random.choice((1, 2, 4, 8))
            data[at : at + size] = (random.choice(_BORDERS) & ((1 << 8 * size) - 1)).to_bytes(size, "big")
        elif kind == 6:
            other = random.choice(corpus)
            cut = random.randrange(len(other) + 1)
            data[at:] = other[cut:]
        elif kind == 7:
            data = data[:at]
        else:
            data[at:at] = random.choice(corpus)[: random.randrange(200)]
    return bytes(data)


def text_like(random: Random, corpus: list[str]) -> str:
    """The same for a text."""
    text = list(random.choice(corpus)) if random.random() > 0.05 else []
    for _ in range(random.choice((0, 1, 1, 2, 3, 8))):
        at = random.randrange(len(text) + 1)
        kind = random.randrange(6)
        if kind == 0:
            text[at:at] = [random.choice(TEXT_ALPHABET)]
        elif kind == 1:
            del text[at : at + random.choice((1, 1, 3, 10))]
        elif kind == 2 and text:
            text[at % len(text)] = random.choice(TEXT_ALPHABET)
        elif kind == 3:
            text[at:at] = text[at : at + random.randrange(20)] * random.choice((1, 1, 2, 40))
        elif kind == 4:
            other = random.choice(corpus)
            begin = random.randrange(len(other) + 1)
            text[at:at] = other[begin : begin + random.randrange(20)]
        else:
            text[at:at] = random.choice(TEXT_ALPHABET) * random.choice((1, 2, 30, 300))
    return "".join(text)

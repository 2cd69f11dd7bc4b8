"""Fuzzed: what people and hosts type: target expressions against naive sets, the sanitiser before every terminal."""

from __future__ import annotations

__all__ = ("sanitiser", "targets", "targets_meaning")

import re
import unicodedata
from random import Random

from fuzz.mutate import bytes_like, text_like
from libstaragent import codes
from libstaragent import targets as t
from libstaragent.errors import StarAgentError
from libstaragent.model.host import HostFacts
from opsconsole.sanitize import LineSanitizer, safe

_HOSTS = [
    HostFacts(
        id=f"01HF7YAT31JZSM4E5Z4QFZ2A{number:02d}",
        name=f"{kind}{number:02d}",
        room="hz" if number % 2 else "main",
        addresses=(f"10.0.{number}.1",),
        labels={"role": kind},
        facts={"os": "linux" if number % 3 else "bsd"},
    )
    for number, kind in enumerate(("web", "db") * 8)
]
_GROUPS = {"front": "web*", "both": "@front | db0[0-3]", "loop": "@loop", "deep": "!(@both & role=web)"}
_EXPRESSIONS = [
    "web[00-14/2]",
    "web00,db01",
    "web* & !web0[2-4]",
    "@front & os=linux",
    "role=db | 10.0.4.0/24",
    "(all & room=hz) & !(@both)",
    "web[00,02-04,14]",
    "all",
    "*[0-1]?",
    "os=*n?x",
]


def targets(random: Random) -> None:
    """Any text: hosts that are there, by what each host itself says too, or a code."""
    text = text_like(random, _EXPRESSIONS)
    try:
        expression = t.parse(text)
        found = t.select(expression, _HOSTS, _GROUPS)
    except StarAgentError:
        return
    for host in _HOSTS:
        assert expression.matches(host, _GROUPS) == (host in found), f"the host and the list differ on {host.name}"


def targets_meaning(random: Random) -> None:
    """An expression of known terms means the union, meet and rest of their sets."""
    text, meant = _expression(random, 3)
    try:
        found = {host.name for host in t.select(t.parse(text), _HOSTS, _GROUPS)}
    except StarAgentError as error:
        if error.code is codes.NO_TARGET and not meant:
            return
        raise AssertionError(f"{text!r} is refused: {error}") from error
    assert found == meant, f"{text!r} means {sorted(found)} and not {sorted(meant)}"


_ALL = frozenset(host.name for host in _HOSTS)


def _expression(random: Random, depth: int) -> tuple[str, frozenset[str]]:
    if depth == 0 or random.random() < 0.2:
        return _term(random)
    kind = random.randrange(4)
    left, one = _expression(random, depth - 1)
    if kind == 0:
        return f"!({left})", _ALL - one
    right, other = _expression(random, depth - 1)
    space = random.choice(("", " "))
    if kind == 1:
        return f"({left}){space}&{space}({right})", one & other
    return f"({left}){space}{random.choice('|,')}{space}({right})", one | other


def _term(random: Random) -> tuple[str, frozenset[str]]:
    kind = random.randrange(6)
    if kind == 0:
        name = random.choice(sorted(_ALL))
        return name, frozenset({name})
    if kind == 1:
        low, high = sorted((2 * random.randrange(8), 2 * random.randrange(8)))
        return f"web[{low:02d}-{high:02d}/2]", frozenset(f"web{number:02d}" for number in range(low, high + 1, 2))
    if kind == 2:
        return "db*", frozenset(name for name in _ALL if name.startswith("db"))
    if kind == 3:
        system = random.choice(("linux", "bsd"))
        return f"os={system}", frozenset(host.name for host in _HOSTS if host.facts["os"] == system)
    if kind == 4:
        return "@front", frozenset(name for name in _ALL if name.startswith("web"))
    number = random.randrange(16)
    return f"10.0.{number}.0/24", frozenset({_HOSTS[number].name})


_OUTPUT = [
    b"plain line\nand another\r\n",
    b"\x1b[31mred\x1b[0m \x1b[1;38;5;200mbold\x1b[m\n",
    b"\x1b]0;title\x07\x1b]52;c;ZWNobyBoaQ==\x1b\\after\n",
    b"\x1bP+q544e\x1b\\\x1b_apc\x1b\\\x9b31mC1\x9c\n",
    "caf\u00e9 \u202e\u0430\u200f \u0301\u0301\u0301\u0301\u0301 \U0001f600\n".encode(),
    b"a\tb\x08\x08c\x0b\x0c\x00\x7f\xff\xfe\xc3(\n",
    b"\x1b[" + b"1;" * 200 + b"m" + b"x" * 5000 + b"\n",
]
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def sanitiser(random: Random) -> None:
    """Any output in any pieces: the same lines, and nothing in them that moves, hides or reprograms."""
    data = bytes_like(random, _OUTPUT)
    whole, pieces = LineSanitizer(), LineSanitizer()
    lines = [*whole.feed(data), *whole.flush()]
    cut: list[object] = []
    position = 0
    while position < len(data):
        step = random.choice((1, 2, 7, 1000))
        cut += pieces.feed(data[position : position + step])
        position += step
    cut += pieces.flush()
    assert cut == lines, "another cut, other lines"
    for line in lines:
        _harmless(line.text)
        assert all(0 <= span.start < span.end <= len(line.text) for span in line.spans), "a style beyond its line"
    _harmless(safe(data.decode("utf-8", "surrogateescape")))


def _harmless(text: str) -> None:
    assert _FORBIDDEN.search(text) is None, f"a control character is left in {text[:80]!r}"
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in text), "it is not harmless"

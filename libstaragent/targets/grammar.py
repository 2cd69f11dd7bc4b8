"""Reading target expressions: text in, a tree or a coded error with a caret out.

    either  = both (("|" | ",") both)*
    both    = single ("&" single)*
    single  = "!" single | "(" either ")" | atom
    atom    = "all" | "*"            every host
            | "@" group              of the roster
            | key "=" value          a label or fact; wildcards, or exact in double quotes
            | address ["/" prefix]   hosts with an address in it
            | name                   with [ranges] and wildcards

Not here: what a tree means for hosts. Rules: one pass by hand, since the caret must stand where a person would look;
each limit is checked before its cost is paid; any text at all gives a tree or TARGET_SYNTAX.
"""

from __future__ import annotations

__all__ = ("is_reserved", "read")

from typing import NoReturn

from libstaragent import codes
from libstaragent.targets import limits
from libstaragent.targets.pattern import ANY, ONE, Part, Pattern, Span
from libstaragent.targets.terms import All, And, Fact, Group, Names, Network, Not, Or, Ranges, Term

_DIGITS = frozenset("0123456789")
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NAME = _LETTERS | _DIGITS | frozenset("._-")
_ADDRESS = _DIGITS | frozenset("abcdefABCDEF.:/")
_BLANK = frozenset(" \t\n")
_ENDS = _BLANK | frozenset("&|!(),")

# What of a long text an error shows on each side of the caret.
_SHOWN = 40


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.expanded = 0
        self.scans = 0

    def fail(self, what: str, at: int | None = None) -> NoReturn:
        at = self.at if at is None else at
        start = max(0, at - _SHOWN)
        shown = "".join(symbol if symbol.isprintable() else "?" for symbol in self.text[start : at + _SHOWN])
        raise codes.TARGET_SYNTAX.error(f"{what} at position {at + 1}\n  {shown}\n  {' ' * (at - start)}^")

    def peek(self) -> str:
        while self.at < len(self.text) and self.text[self.at] in _BLANK:
            self.at += 1
        return self.text[self.at : self.at + 1]

    # the operators ----------------------------------------------------------------------------------------------------

    def either(self, depth: int) -> Term:
        terms = [self.both(depth)]
        while self.peek() in ("|", ","):
            self.at += 1
            terms.append(self.both(depth))
        return _joined(terms)

    def both(self, depth: int) -> Term:
        terms = [self.single(depth)]
        while self.peek() == "&":
            self.at += 1
            terms.append(self.single(depth))
        return terms[0] if len(terms) == 1 else And(tuple(terms))

    def single(self, depth: int) -> Term:
        symbol = self.peek()
        if symbol not in ("!", "("):
            return self.atom()
        if depth >= limits.MAX_DEPTH:
            self.fail(f"more than {limits.MAX_DEPTH} levels of ( and !")
        opened = self.at
        self.at += 1
        if symbol == "!":
            return Not(self.single(depth + 1))
        inner = self.either(depth + 1)
        if self.peek() != ")":
            self.fail("this ( is never closed", opened)
        self.at += 1
        return inner

    # the atoms --------------------------------------------------------------------------------------------------------

    def atom(self) -> Term:
        start = self.at
        if self.text.startswith("@", start):
            self.at += 1
            name = self.run_of(_NAME)
            if not name:
                self.fail("a group's name is missing")
            self.count_scan(start)
            return Group(name, start)
        word = self.run_of(_NAME)
        if word and self.text.startswith("=", self.at):
            self.at += 1
            self.count_scan(start)
            return Fact(word, self.value())
        if not word and not self.text[start : start + 1]:
            self.fail("a target is missing")
        self.at = start
        address = self.run_of(_ADDRESS)
        if ":" in address or "/" in address or _dotted(address):
            self.count_scan(start)
            return self.network(address, start)
        self.at = start
        return self.name(start)

    def run_of(self, symbols: frozenset[str]) -> str:
        start = self.at
        while self.at < len(self.text) and self.text[self.at] in symbols:
            self.at += 1
        return self.text[start : self.at]

    def count_scan(self, at: int) -> None:
        self.scans += 1
        if self.scans > limits.MAX_SCANS:
            self.fail(f"more than {limits.MAX_SCANS} groups, facts, networks and wildcards", at)

    def count_names(self, count: int, at: int) -> None:
        self.expanded += count
        if self.expanded > limits.MAX_EXPANDED:
            self.fail(f"more than {limits.MAX_EXPANDED} names", at)

    def value(self) -> Pattern:
        start = self.at
        if self.text.startswith('"', start):
            end = self.text.find('"', start + 1)
            if end < 0:
                self.fail("this quote is never closed")
            self.at = end + 1
            return Pattern((self.text[start + 1 : end],))
        while self.at < len(self.text) and self.text[self.at] not in _ENDS:
            self.at += 1
        if self.at == start:
            self.fail("a value is missing")
        return Pattern(tuple(_wild(self.text[start : self.at])))

    def network(self, written: str, start: int) -> Network:
        from ipaddress import ip_network  # late: an agent whose expressions hold no address never pays for it

        try:
            return Network(ip_network(written))
        except ValueError as error:
            self.fail(str(error), start)

    def name(self, start: int) -> Term:
        parts: list[Part] = []
        while True:
            plain = self.run_of(_NAME)
            if plain:
                parts.append(plain)
            symbol = self.text[self.at : self.at + 1]
            if symbol == "[":
                if sum(isinstance(part, tuple) for part in parts) >= limits.MAX_RANGES:
                    self.fail(f"more than {limits.MAX_RANGES} ranges in one name")
                parts.append(self.bracket())
            elif symbol in ("*", "?") and symbol:
                self.at += 1
                wildcard = ANY if symbol == "*" else ONE
                if wildcard is ONE or parts[-1:] != [ANY]:
                    parts.append(wildcard)
            else:
                break
        if not parts:
            self.fail(f"{self.text[self.at : self.at + 1]!a} cannot begin a target")
        if parts in (["all"], [ANY]):
            return All()
        pattern = Pattern(tuple(parts))
        if not pattern.literal:
            if sum(len(part) for part in parts if isinstance(part, tuple)) > limits.MAX_WILD_SPANS:
                self.fail(f"more than {limits.MAX_WILD_SPANS} ranges beside a wildcard", start)
            self.count_scan(start)
            return Ranges(pattern)
        self.count_names(pattern.count(), start)
        return Names(frozenset((plain,))) if parts == [plain] else Ranges(pattern)

    def bracket(self) -> tuple[Span, ...]:
        opened = self.at
        spans: list[Span] = []
        while True:
            self.at += 1
            spans.append(self.span())
            symbol = self.peek()
            if symbol == "]":
                self.at += 1
                return tuple(spans)
            if not symbol:
                self.fail("this [ is never closed", opened)
            if symbol != ",":
                self.fail("a range goes on with `,` or ends with `]`")

    def span(self) -> Span:
        self.peek()
        start = self.at
        first = last = self.number()
        step = "1"
        if self.text.startswith("-", self.at):
            self.at += 1
            last = self.number()
            if self.text.startswith("/", self.at):
                self.at += 1
                step = self.number()
        padded = any(len(end) > 1 and end[0] == "0" for end in (first, last))
        if padded and len(first) != len(last):
            self.fail("with a leading zero both ends have the same number of digits", start)
        if int(first) > int(last):
            self.fail("this range ends before it begins", start)
        if int(step) == 0:
            self.fail("a step of 0 never arrives", start)
        return Span(int(first), int(last), int(step), len(first) if padded else 0)

    def number(self) -> str:
        start = self.at
        digits = self.run_of(_DIGITS)
        if not digits:
            self.fail("a number is missing")
        if len(digits) > limits.MAX_NUMBER_DIGITS:
            self.fail(f"a number of more than {limits.MAX_NUMBER_DIGITS} digits", start)
        return digits


def read(text: str) -> Term:
    """The tree of `text`.

    :raises UsageError: TARGET_SYNTAX, with the position and a caret, or a limit of `libstaragent.targets.limits`.
    """
    reader = _Reader(text)
    if len(text) > limits.MAX_TEXT:
        reader.fail(f"more than {limits.MAX_TEXT} characters", limits.MAX_TEXT)
    term = reader.either(0)
    if reader.peek():
        reader.fail("two targets need `,`, `|` or `&` between them" if reader.peek() != ")" else "nothing opens this )")
    return term


def is_reserved(name: str) -> bool:
    """Whether a host's name, written as a target, would mean something else; ``name=…`` means the host."""
    return name == "all" or _dotted(name)


def _joined(terms: list[Term]) -> Term:
    plain = [term for term in terms if isinstance(term, Names)]
    if len(plain) > 1:
        terms = [term for term in terms if not isinstance(term, Names)]
        terms.append(Names(frozenset[str]().union(*(term.names for term in plain))))
    return terms[0] if len(terms) == 1 else Or(tuple(terms))


def _wild(text: str) -> list[Part]:
    parts: list[Part] = []
    plain = ""
    for symbol in text:
        if symbol not in "*?":
            plain += symbol
            continue
        if plain:
            parts.append(plain)
            plain = ""
        if symbol == "?" or parts[-1:] != [ANY]:
            parts.append(ANY if symbol == "*" else ONE)
    if plain:
        parts.append(plain)
    return parts


def _dotted(text: str) -> bool:
    numbers = text.split(".")
    return len(numbers) == 4 and all(number.isdecimal() for number in numbers)

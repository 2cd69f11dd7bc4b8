"""The one sanitiser: bytes and text from elsewhere become text that is safe on the operator's terminal.

It is not a terminal emulator: it moves no cursor, erases nothing and obeys no title, clipboard or link request. It
keeps the text, keeps those colours and attributes that cannot hide text (foreground colour, bold, dim, italic,
underline; not
background, reverse, blink, conceal), and makes the rest visible or drops it:

    CSI ... m                       style, if on the list above; otherwise nothing
    other CSI                       nothing: they would move, erase or reprogram
    OSC, DCS, SOS, PM, APC          one ␛ in their place, so that one sees that something was there
    ESC + anything else, lone ESC   ␛, then the text as it is
    C0, DEL                         their pictures: ␀ ␇ ␈ ␡
    C1, unassigned, private use     �
    bidi controls, zero width, ...  nothing (category Cf, variation selectors, blank letters)
    tab                             spaces up to the next multiple of eight
    CR, LF, CR LF                   the end of the line

A string sequence ends at the end of its line at the latest: an unfinished OSC must not swallow the output after it.

Rules: no markup is ever parsed; the same bytes give the same lines however they are cut into chunks; stdlib only,
because the plain command line uses it without Textual or rich.
"""

from __future__ import annotations

__all__ = ("MAX_LINE", "PLAIN", "Line", "LineSanitizer", "Span", "TextStyle", "safe")

import codecs
import re
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

# A line longer than this is cut: it bounds what one line costs to hold, to search and to draw.
MAX_LINE: Final = 16_384
# Longest CSI that is still read as one; real ones have a few dozen characters.
_MAX_CSI: Final = 128
# Combining marks on one letter; more than a few climb over the lines above and below.
_MAX_MARKS: Final = 3
_TAB: Final = 8

_COLOURS: Final = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
_PLAIN_ASCII: Final = re.compile(r"[ -~\n]*")
# Characters that stay as they are, taken many at a time; the others are looked at one by one. A test goes through all.
_RUN: Final = re.compile(
    "[ -~\u00a1-\u00ac\u00ae-\u02ff\u0391-\u03a1\u03a3-\u0481\u2010-\u2027\u2190-\u2426\u2460-\u27bf\u4e00-\u9fef]+"
)
# Variation selectors change the width of the character before them; the others are letters with no ink.
_INKLESS: Final = frozenset("\u115f\u1160\u3164\uffa0\u034f\u17b4\u17b5\u180b\u180c\u180d\u180f") | {
    chr(point) for point in (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}
_STRING_INTRODUCERS: Final = frozenset("]PX^_")


@dataclass(frozen=True, slots=True)
class TextStyle:
    """The styles that output may ask for. `colour` is one of eight names, which the theme makes readable, or empty."""

    colour: str = ""
    bold: bool = False
    dim: bool = False
    italic: bool = False
    underline: bool = False


PLAIN: Final = TextStyle()


@dataclass(frozen=True, slots=True)
class Span:
    """`style` holds for the characters from `start` up to `end`."""

    start: int
    end: int
    style: TextStyle


@dataclass(frozen=True, slots=True)
class Line:
    """One safe line and the styled parts of it."""

    text: str
    spans: tuple[Span, ...] = ()


@lru_cache(maxsize=4_096)
def _picture(character: str) -> str:
    """What stands on the screen for one character outside printable ASCII; empty for what is dropped."""
    point = ord(character)
    if point < 0x20:
        return chr(0x2400 + point)
    if point == 0x7F:
        return "\u2421"
    if character in _INKLESS:
        return ""
    category = unicodedata.category(character)
    if category == "Cf":
        return ""
    if category in ("Cc", "Cs", "Co", "Cn"):
        return "\ufffd"
    if category in ("Zl", "Zp"):
        return "\u2424"
    if category == "Zs":
        return " "
    return character


@lru_cache(maxsize=16_384)
def safe(text: str) -> str:
    """One safe line for a name, a label, a message: nothing is interpreted, escapes show as ␛."""
    if text.isascii() and text.isprintable():
        return text
    parts: list[str] = []
    marks = 0
    for character in text[:MAX_LINE]:
        marks = marks + 1 if _is_mark(character) else 0
        if marks <= _MAX_MARKS:
            parts.append(character if " " <= character <= "~" else _picture(character))
    return "".join(parts)


@lru_cache(maxsize=4_096)
def _is_mark(character: str) -> bool:
    return character > "~" and unicodedata.category(character) in ("Mn", "Me")


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(
        0 if _is_mark(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text
    )


def _nearest(red: int, green: int, blue: int) -> str:
    """The nearest of eight names: a channel counts when it is more than half of the brightest."""
    top = max(red, green, blue)
    if top < 64:
        return "black"
    return _COLOURS[sum(bit for bit, channel in ((1, red), (2, green), (4, blue)) if channel * 2 > top)]


def _indexed(index: int) -> str:
    if index < 16:
        return _COLOURS[index % 8]
    if index >= 232:
        return "white" if index >= 244 else "black"
    cube = index - 16
    return _nearest(cube // 36 * 51, cube // 6 % 6 * 51, cube % 6 * 51)


def _extended(numbers: list[int], at: int) -> tuple[str | None, int]:
    """Read 38;5;n or 38;2;r;g;b at `at`: the colour, and how many numbers belong to it."""
    kind = numbers[at + 1] if at + 1 < len(numbers) else -1
    if kind == 5 and at + 2 < len(numbers):
        return (_indexed(numbers[at + 2]) if numbers[at + 2] < 256 else None), 3
    if kind == 2 and at + 4 < len(numbers):
        red, green, blue = (min(number, 255) for number in numbers[at + 2 : at + 5])
        return _nearest(red, green, blue), 5
    return None, len(numbers) - at


_ATTRIBUTES: Final[dict[int, dict[str, bool]]] = {
    1: {"bold": True},
    2: {"dim": True},
    3: {"italic": True},
    4: {"underline": True},
    22: {"bold": False, "dim": False},
    23: {"italic": False},
    24: {"underline": False},
}


@lru_cache(maxsize=1_024)
def _restyle(style: TextStyle, parameters: str) -> TextStyle:
    """The style after ``CSI parameters m``; a list that cannot be read changes nothing."""
    try:
        numbers = [int(part or "0") for part in parameters.replace(":", ";").split(";")]
    except ValueError:
        return style
    at = 0
    while at < len(numbers):
        number = numbers[at]
        used = 1
        if number == 0:
            style = PLAIN
        elif number in _ATTRIBUTES:
            style = replace(style, **_ATTRIBUTES[number])
        elif 30 <= number <= 37 or 90 <= number <= 97:
            style = replace(style, colour=_COLOURS[number % 10])
        elif number == 39:
            style = replace(style, colour="")
        elif number in (38, 48, 58):
            colour, used = _extended(numbers, at)
            if number == 38 and colour is not None:
                style = replace(style, colour=colour)
        at += used
    return style


class LineSanitizer:
    """The sanitiser of one stream: feed it bytes as they come, take safe lines.

    Args:
        styled: keep the allowed styles as spans; otherwise lines are text only.
    """

    def __init__(self, *, styled: bool = True) -> None:
        self._styled = styled
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._state = self._ground
        self._style = PLAIN
        self._sequence = ""
        self._after_return = False
        self._start_line()

    def _start_line(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._column = 0
        self._measured = 0
        self._marks = 0
        self._spans: list[Span] = []
        self._span_start = 0

    @property
    def pending(self) -> bool:
        """Whether a line has begun and not ended."""
        return self._length > 0

    def feed(self, data: bytes) -> list[Line]:
        """The lines that these bytes complete."""
        return self._take(self._decoder.decode(data))

    def flush(self) -> list[Line]:
        """The line that has begun, if any: the stream is over."""
        lines = self._take(self._decoder.decode(b"", final=True))
        if self._state != self._ground:
            self._emit("\u241b")
            self._state = self._ground
        if self._length:
            lines.append(self._end_line())
        return lines

    def _take(self, text: str) -> list[Line]:
        if self._state == self._ground and self._style is PLAIN and not self._after_return:
            plain = self._take_plain(text)
            if plain is not None:
                return plain
        lines: list[Line] = []
        at = 0
        while at < len(text):
            if self._state == self._ground and (run := _RUN.match(text, at)):
                self._after_return = False
                self._marks = 0
                at = run.end()
                self._emit_run(run.group(), lines)
                continue
            character = text[at]
            at += 1
            after_return, self._after_return = self._after_return, False
            if character == "\n" and after_return:
                continue
            if character in "\r\n":
                if self._state != self._ground:
                    self._emit("\u241b")
                    self._state = self._ground
                self._after_return = character == "\r"
                lines.append(self._end_line())
                continue
            self._state(character)
            if self._length >= MAX_LINE:
                lines.append(self._end_line())
        return lines

    def _take_plain(self, text: str) -> list[Line] | None:
        """The quick way for what most output is: printable ASCII in lines of sane length."""
        found = _PLAIN_ASCII.match(text)
        if found is None or found.end() != len(text):
            return None
        pieces = text.split("\n")
        if self._length + max(map(len, pieces)) >= MAX_LINE:
            return None
        if not text:
            return []
        # A letter begins a new character, here as on the slow way: marks are counted from it.
        self._marks = 0
        if len(pieces) == 1:
            self._emit(text)
            return []
        self._emit(pieces[0])
        lines = [self._end_line()]
        lines.extend(Line(piece) for piece in pieces[1:-1])
        if pieces[-1]:
            self._emit(pieces[-1])
        return lines

    def _emit(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _emit_run(self, run: str, lines: list[Line]) -> None:
        while self._length + len(run) >= MAX_LINE:
            room = MAX_LINE - self._length
            self._emit(run[:room])
            run = run[room:]
            lines.append(self._end_line())
        if run:
            self._emit(run)

    def _end_line(self) -> Line:
        self._close_span()
        line = Line("".join(self._parts), tuple(self._spans))
        self._start_line()
        return line

    def _close_span(self) -> None:
        if self._styled and self._style != PLAIN and self._length > self._span_start:
            self._spans.append(Span(self._span_start, self._length, self._style))
        self._span_start = self._length

    # The states. Each takes one character that is not CR or LF.

    def _ground(self, character: str) -> None:
        if character == "\x1b":
            self._state = self._escape
        elif character == "\t":
            # Measured only here, and each part once: a line of tabs must not cost its square.
            self._column += sum(map(_width, self._parts[self._measured :]))
            self._measured = len(self._parts)
            self._emit(" " * (_TAB - self._column % _TAB))
        elif _is_mark(character):
            self._marks += 1
            if self._marks <= _MAX_MARKS and (picture := _picture(character)):
                self._emit(picture)
            return
        else:
            picture = character if " " <= character <= "~" else _picture(character)
            if picture:
                self._emit(picture)
        self._marks = 0

    def _escape(self, character: str) -> None:
        if character == "[":
            self._sequence = ""
            self._state = self._control
        elif character in _STRING_INTRODUCERS:
            self._state = self._string
        else:
            self._emit("\u241b")
            self._state = self._ground
            self._ground(character)

    def _control(self, character: str) -> None:
        if "@" <= character <= "~":
            self._state = self._ground
            if character == "m":
                self._close_span()
                style = _restyle(self._style, self._sequence)
                self._style = PLAIN if style == PLAIN else style
        elif " " <= character <= "?" and len(self._sequence) < _MAX_CSI:
            self._sequence += character
        else:
            self._emit("\u241b")
            self._state = self._ground
            self._ground(character)

    def _string(self, character: str) -> None:
        if character == "\x07" or character == "\x9c":
            self._emit("\u241b")
            self._state = self._ground
        elif character == "\x1b":
            self._state = self._string_escape

    def _string_escape(self, character: str) -> None:
        self._emit("\u241b")
        self._state = self._ground
        if character != "\\":
            self._escape(character)

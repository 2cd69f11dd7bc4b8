"""Output as plain lines: `web01 | text`, from any number of hosts at once, safe on any terminal.

    stdout of the command → stdout, stderr → stderr, each line behind its host's name
    on a terminal: names aligned and coloured, the command's own colours kept; stderr's bar is ``!`` instead of ``|``

Not here: where output comes from (`libstaragent.client.output`), JSON. Rules: every remote byte passes the sanitiser,
except those of one host in `--raw`; a line is written when it is whole, so that hosts never share one; both streams of
a host keep their order, as far as two descriptors can: each is flushed before the other is written.
"""

from __future__ import annotations

__all__ = ("HostLines", "LineWriter", "Sink", "wants_colour")

import os
from collections.abc import Iterable
from typing import Protocol, TextIO

from libstaragent.client.output import STDERR, Gap, Piece
from opsconsole.sanitize import PLAIN, Line, LineSanitizer, TextStyle, safe

# A name longer than this pushes only its own lines to the right.
WIDEST_ALIGNED = 24
_HOST_COLOURS = (36, 32, 33, 34, 35, 96, 92, 94)
_COLOUR = {"black": 90, "red": 31, "green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36, "white": 37}


def wants_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal, and nobody asked for none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Sink(Protocol):
    """Where a job's output goes, host by host."""

    def pieces(self, host: str, pieces: Iterable[Piece | Gap]) -> None:
        """More output of `host`."""
        ...

    def end(self, host: str) -> None:
        """No more output of `host`."""
        ...


class LineWriter:
    """Two streams as one place: what is written to one appears after what was written to the other."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self._streams = (stdout, stderr)
        self._last = stdout

    def write(self, text: str, *, error: bool) -> None:
        """Writes `text` to stdout, or to stderr."""
        stream = self._streams[error]
        if stream is not self._last:
            self._last.flush()
            self._last = stream
        stream.write(text)

    def write_bytes(self, data: bytes, *, error: bool) -> None:
        """Writes `data` as it is."""
        stream = self._streams[error]
        self.write("", error=error)
        stream.flush()
        stream.buffer.write(data)

    def flush(self) -> None:
        """What was written is on its way."""
        self._last.flush()


class HostLines:
    """A `Sink` that writes lines with the host's name before them."""

    def __init__(
        self, writer: LineWriter, *, names: Iterable[str] = (), align: bool = False, colour: bool = False
    ) -> None:
        self._writer = writer
        self._colour = colour
        longest = max((len(name) for name in names), default=0)
        self._width = min(longest, WIDEST_ALIGNED) if align else 0
        self._open: dict[tuple[str, int], LineSanitizer] = {}
        self._prefixes: dict[tuple[str, bool], str] = {}

    def pieces(self, host: str, pieces: Iterable[Piece | Gap]) -> None:
        """See `Sink`."""
        for piece in pieces:
            if isinstance(piece, Gap):
                self._flush(host)
                self._line(host, Line(f"[{piece.size} bytes omitted]"), error=True)
                continue
            key = (host, piece.stream)
            sanitizer = self._open.get(key)
            if sanitizer is None:
                sanitizer = self._open[key] = LineSanitizer(styled=self._colour)
            for line in sanitizer.feed(piece.data):
                self._line(host, line, error=piece.stream == STDERR)
        self._writer.flush()

    def end(self, host: str) -> None:
        """See `Sink`."""
        self._flush(host)
        self._writer.flush()

    def _flush(self, host: str) -> None:
        for key in [key for key in self._open if key[0] == host]:
            for line in self._open.pop(key).flush():
                self._line(host, line, error=key[1] == STDERR)

    def _line(self, host: str, line: Line, *, error: bool) -> None:
        prefix = self._prefixes.get((host, error))
        if prefix is None:
            prefix = self._prefixes[host, error] = self._prefix(host, error)
        text = _painted(line) if self._colour and line.spans else line.text
        self._writer.write(f"{prefix}{text}\n", error=error)

    def _prefix(self, host: str, error: bool) -> str:
        name = safe(host).ljust(self._width)
        if not self._colour:
            # In a pipe the descriptor tells the streams apart; both have one form, so that one pattern cuts both.
            return f"{name} | "
        colour = _HOST_COLOURS[sum(host.encode("utf-8", "replace")) % len(_HOST_COLOURS)]
        return f"\x1b[{colour}m{name}\x1b[0m \x1b[{31 if error else 90}m{'!' if error else '|'}\x1b[0m "


def _painted(line: Line) -> str:
    parts: list[str] = []
    at = 0
    for span in line.spans:
        parts.append(line.text[at : span.start])
        text = line.text[span.start : span.end]
        parts.append(text if span.style == PLAIN else f"\x1b[{_numbers(span.style)}m{text}\x1b[0m")
        at = span.end
    parts.append(line.text[at:])
    return "".join(parts)


def _numbers(style: TextStyle) -> str:
    flags = ((style.bold, 1), (style.dim, 2), (style.italic, 3), (style.underline, 4))
    numbers = [number for on, number in flags if on]
    if style.colour:
        numbers.append(_COLOUR[style.colour])
    return ";".join(map(str, numbers))

"""`--json`: everything as one JSON object a line, for other programs.

    {"event": "output", "job": …, "host": "web01", "stream": "stdout", "text": "…"}    or "base64" if it is no UTF-8
    {"event": "gap", "job": …, "host": "web01", "bytes": 4096}
    {"event": "target", "job": …, "host": "web01", "state": "ok", "exit_status": 0, …}
    {"event": "job", "id": …, "counts": {…}, …}
    {"event": "result", "job": …, "targets": 8, "counts": {…}, "exit_status": 1}

Rules: ASCII only (other characters as \\u escapes), so that no byte of a host can act on a terminal; a text may be cut
anywhere, also within a line; a line is flushed when it is written.
"""

from __future__ import annotations

__all__ = ("JsonWatcher", "json_line")

import base64
import codecs
import json
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from libstaragent.client.output import STDERR, Gap, Piece
from libstaragent.model.api import JobView, TargetView


def json_line(event: str, value: object = None, **fields: object) -> str:
    """One line: `event`, the fields of `value` (a struct), then `fields`."""
    plain: dict[str, Any] = {} if value is None else msgspec.to_builtins(value)
    return json.dumps({"event": event, **plain, **fields}) + "\n"


class JsonWatcher:
    """Tells a job's events as lines to `write`. It is patient: a program wants everything in its order."""

    patient = True

    def __init__(self, job: str, write: Callable[[str], object]) -> None:
        self._job = job
        self._write = write
        self._decoders: dict[tuple[str, int], codecs.IncrementalDecoder] = {}

    def pieces(self, host: str, pieces: Iterable[Piece | Gap]) -> None:
        """Output and gaps."""
        for piece in pieces:
            if isinstance(piece, Gap):
                self._write(json_line("gap", job=self._job, host=host, bytes=piece.size))
                continue
            stream = "stderr" if piece.stream == STDERR else "stdout"
            self._write(json_line("output", job=self._job, host=host, stream=stream, **self._text(host, piece)))

    def end(self, host: str) -> None:
        """A character that was cut off at the end is told as the bytes that it is."""
        for key in [key for key in self._decoders if key[0] == host]:
            rest = self._decoders.pop(key).getstate()[0]
            if rest:
                stream = "stderr" if key[1] == STDERR else "stdout"
                data = base64.b64encode(rest).decode()
                self._write(json_line("output", job=self._job, host=host, stream=stream, base64=data))

    def target(self, target: TargetView) -> None:
        """A target moved on, ended, or was amended."""
        self._write(json_line("target", target))

    def job(self, job: JobView) -> None:
        """The job moved on."""
        self._write(json_line("job", job))

    def _text(self, host: str, piece: Piece) -> dict[str, str]:
        key = (host, piece.stream)
        decoder = self._decoders.get(key)
        if decoder is None:
            decoder = self._decoders[key] = codecs.getincrementaldecoder("utf-8")()
        before = decoder.getstate()[0]
        try:
            return {"text": decoder.decode(piece.data)}
        except UnicodeDecodeError:
            decoder.reset()
            return {"base64": base64.b64encode(before + piece.data).decode()}

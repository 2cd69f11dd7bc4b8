"""Patterns of absolute paths: segment by segment, anchored at both ends.

    /etc/nginx/conf.d/*.conf      * and ? inside one segment, {a,b} too, as in `words`
    /srv/app/**                   a final ** stands for one or more further segments

A path that is asked for must stand in its plain form: absolute, no ``.`` or ``..``, no empty segment, no ``/`` at its
end. What is not is refused, never tidied up: two readers that tidy differently are a way through.

Not here: symbolic links. A rule judges the name that was signed; whoever opens it on the host follows no link that
somebody else than root could have made. Rules: pure; the bounds are those of `words`.
"""

from __future__ import annotations

__all__ = ("PathPattern", "check_path_pattern", "is_plain_path", "matches_path")

from libstaragent.security.policy.words import MAX_PATTERN_BYTES, MAX_WORDS, REST, matches_word, word_error

# As it was written.
PathPattern = str


def check_path_pattern(pattern: PathPattern) -> None:
    """Nothing, if it can be read.

    :raises ValueError: it cannot; the text says why.
    """
    if not pattern.startswith("/"):
        raise ValueError(f"path {pattern!r} is not absolute")
    if len(pattern.encode("utf-8", "surrogatepass")) > MAX_PATTERN_BYTES:
        raise ValueError(f"a path is longer than {MAX_PATTERN_BYTES} bytes")
    if pattern == "/":
        return
    segments = pattern[1:].split("/")
    if len(segments) > MAX_WORDS:
        raise ValueError(f"a path of more than {MAX_WORDS} segments")
    for at, segment in enumerate(segments):
        if segment == REST:
            if at != len(segments) - 1:
                raise ValueError(f"** may only be the end of a path: {pattern!r}")
        elif segment in ("", ".", ".."):
            raise ValueError(f"path {pattern!r} is not plain: no //, /./, /../, and no / at its end")
        elif wrong := word_error(segment):
            raise ValueError(wrong)


def is_plain_path(path: str) -> bool:
    """Whether `path` is written in the one form that is judged."""
    if path == "/":
        return True
    return path.startswith("/") and all(segment not in ("", ".", "..") for segment in path[1:].split("/"))


def matches_path(pattern: PathPattern, path: str) -> bool:
    """Whether `path` is plain and meant by `pattern`, which `check_path_pattern` has passed."""
    if not is_plain_path(path):
        return False
    if path == "/":
        return pattern in ("/", "/**")
    segments, wanted = path[1:].split("/"), pattern[1:].split("/")
    if wanted[-1] == REST:
        wanted.pop()
        if len(segments) <= len(wanted) or not all(matches_word("*", segment) for segment in segments[len(wanted) :]):
            return False
    elif len(segments) != len(wanted):
        return False
    return all(matches_word(pattern, given) for pattern, given in zip(wanted, segments, strict=False))

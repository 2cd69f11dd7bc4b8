r"""Patterns of commands: word by word, anchored at both ends.

    systemctl restart {nginx,app-*}      literal words; * and ? inside one word; one of several
    journalctl -u nginx **               a final ** stands for any further words, none too
    echo \*                              \ takes the meaning from the next symbol; \u{43e} is a letter by its number

An argv is a list of words, and so is a pattern: nothing is joined and nothing is split, so no space or quote in a word
can make two of one. `*` and `?` take no control character: a wildcard lets no second line through. What means something
in a regular expression or to a shell (``^ $ ( ) [ ] | ; & < > ` ' "``) is refused unless ``\`` stands before it:
whoever writes it expects what no pattern does.

Not here: splitting a pattern as a person writes it, in TOML (`split_words` does so on blanks, and only there). Rules:
pure; a match takes time in the product of the two lengths at most, whatever is written; no library.
"""

from __future__ import annotations

__all__ = (
    "REST",
    "ArgvPattern",
    "check_argv_pattern",
    "matches_argv",
    "matches_word",
    "sample_word",
    "split_words",
    "word_error",
)

from functools import lru_cache
from itertools import product

# The words of a pattern as they were written.
ArgvPattern = tuple[str, ...]

REST = "**"
MAX_WORDS = 64
MAX_PATTERN_BYTES = 4096
# What `{a,b}{c,d}` multiplies to, over one word.
MAX_ALTERNATIVES = 256
MAX_WILDCARDS = 16

_REFUSED = "^$()[]|;&<>`'\""
_ANY, _ONE = "*", "?"
_HEX = "0123456789abcdefABCDEF"

# A word read: alternatives, each a tuple of literal texts and wildcards ("\0*" and "\0?": no word holds NUL).
_Glob = tuple[str, ...]
_ANY_MARK, _ONE_MARK = "\0*", "\0?"


def split_words(text: str) -> ArgvPattern:
    """The words of a pattern written as one text; blanks are between them, and a ``\\`` keeps one in a word."""
    words: list[str] = []
    word = ""
    at = 0
    while at < len(text):
        if text[at] == "\\":
            word += text[at : at + 2]
            at += 2
        elif text[at] in " \t":
            if word:
                words.append(word)
            word = ""
            at += 1
        else:
            word += text[at]
            at += 1
    if word:
        words.append(word)
    return tuple(words)


def check_argv_pattern(pattern: ArgvPattern) -> None:
    """Nothing, if it can be read.

    :raises ValueError: it cannot; the text says why.
    """
    if not pattern:
        raise ValueError("a pattern of no words matches nothing")
    if len(pattern) > MAX_WORDS:
        raise ValueError(f"a pattern of more than {MAX_WORDS} words")
    if sum(len(word.encode("utf-8", "surrogatepass")) + 1 for word in pattern) > MAX_PATTERN_BYTES:
        raise ValueError(f"a pattern is longer than {MAX_PATTERN_BYTES} bytes")
    for at, word in enumerate(pattern):
        if word == REST:
            if at != len(pattern) - 1:
                raise ValueError("** may only be the last word")
            continue
        wrong = word_error(word)
        if wrong:
            raise ValueError(wrong)


def word_error(word: str) -> str:
    """Why `word` is no pattern of a word; empty where it is one."""
    try:
        _globs(word)
    except ValueError as error:
        return str(error)
    return ""


def matches_argv(pattern: ArgvPattern, argv: tuple[str, ...]) -> bool:
    """Whether the whole of `argv` is meant by `pattern`, which `check_argv_pattern` has passed."""
    words = pattern
    if words[-1] == REST:
        words = words[:-1]
        if len(argv) < len(words):
            return False
    elif len(argv) != len(words):
        return False
    return all(matches_word(word, given) for word, given in zip(words, argv, strict=False))


def matches_word(pattern: str, word: str) -> bool:
    """Whether `word` is meant by the pattern of one word.

    :raises ValueError: the pattern cannot be read.
    """
    return any(_glob_matches(glob, word) for glob in _globs(pattern))


@lru_cache(maxsize=4096)  # the words of the rules of one roster: some hundreds
def _globs(word: str) -> tuple[_Glob, ...]:
    parts: list[list[_Glob]] = []
    at = 0
    wildcards = 0
    while at < len(word):
        symbol = word[at]
        if symbol == "{":
            at, choices = _choices(word, at + 1)
            parts.append(choices)
        elif symbol in "},":
            if symbol == "}":
                raise ValueError(f"}} without {{ in {word!r}")
            parts.append([(symbol,)])
            at += 1
        else:
            at, piece = _symbol(word, at)
            parts.append([(piece,)])
        wildcards += parts[-1][0][:1] in ((_ANY_MARK,), (_ONE_MARK,))
    if wildcards > MAX_WILDCARDS:
        raise ValueError(f"more than {MAX_WILDCARDS} wildcards in one word")
    total = 1
    for choices in parts:
        total *= len(choices)
        if total > MAX_ALTERNATIVES:
            raise ValueError(f"{{…}} stands for more than {MAX_ALTERNATIVES} words")
    return tuple(_joined(chosen) for chosen in product(*parts))


def _choices(word: str, at: int) -> tuple[int, list[_Glob]]:
    choices: list[_Glob] = []
    piece: list[str] = []
    while at < len(word):
        symbol = word[at]
        if symbol == "{":
            raise ValueError(f"{{ inside {{…}} in {word!r}")
        if symbol in ",}":
            choices.append(tuple(piece))
            piece = []
            at += 1
            if symbol == "}":
                return at, choices
        else:
            at, text = _symbol(word, at)
            piece.append(text)
    raise ValueError(f"{{ without }} in {word!r}")


def _symbol(word: str, at: int) -> tuple[int, str]:
    symbol = word[at]
    if symbol == "\\":
        return _escaped(word, at)
    if symbol == _ANY:
        if word[at + 1 : at + 2] == _ANY:
            raise ValueError(f"** is a word of its own, the last: {word!r}")
        return at + 1, _ANY_MARK
    if symbol == _ONE:
        return at + 1, _ONE_MARK
    if symbol in _REFUSED:
        raise ValueError(
            f"{symbol} in {word!r}: patterns are no regular expressions and go to no shell, they know * ? {{a,b}} and "
            f"a final **; write \\{symbol} for the symbol itself"
        )
    if ord(symbol) < 0x20 or ord(symbol) == 0x7F:
        raise ValueError(f"control character U+{ord(symbol):04X} in {word!r}")
    if ord(symbol) > 0x7E:
        written = f"\\u{{{ord(symbol):x}}}"
        raise ValueError(f"U+{ord(symbol):04X} in {word!r} is not ASCII and may look like another; write {written}")
    return at + 1, symbol


def _escaped(word: str, at: int) -> tuple[int, str]:
    following = word[at + 1 : at + 2]
    if following == "u" and word[at + 2 : at + 3] == "{":
        end = word.find("}", at)
        digits = word[at + 3 : end]
        if end < 0 or not 0 < len(digits) <= 6 or digits.strip(_HEX):
            raise ValueError(f"\\u{{…}} in {word!r} is no code point")
        number = int(digits, 16)
        if not 0 < number <= 0x10FFFF or 0xD800 <= number <= 0xDFFF:
            raise ValueError(f"\\u{{{digits}}} is no letter")
        return end + 1, chr(number)
    if not following or following.isalnum() or not 0x20 <= ord(following) <= 0x7E:
        raise ValueError(f"\\{following} in {word!r} means nothing: \\ stands before a symbol, or as \\u{{…}}")
    return at + 2, following


def _joined(chosen: tuple[_Glob, ...]) -> _Glob:
    """Literal symbols side by side as one text."""
    glob: list[str] = []
    for piece in (piece for choice in chosen for piece in choice):
        if piece in (_ANY_MARK, _ONE_MARK) or not glob or glob[-1] in (_ANY_MARK, _ONE_MARK):
            glob.append(piece)
        else:
            glob[-1] += piece
    return tuple(glob)


def _glob_matches(glob: _Glob, word: str) -> bool:
    reached = {0}
    for piece in glob:
        if piece == _ANY_MARK:
            reached = _any_from(reached, word)
        elif piece == _ONE_MARK:
            reached = {at + 1 for at in reached if at < len(word) and _is_plain(word[at])}
        else:
            reached = {at + len(piece) for at in reached if word.startswith(piece, at)}
        if not reached:
            return False
    return len(word) in reached


def _any_from(reached: set[int], word: str) -> set[int]:
    ends: set[int] = set()
    running = False
    for at in range(min(reached), len(word) + 1):
        running = running or at in reached
        if running:
            ends.add(at)
            running = at < len(word) and _is_plain(word[at])
    return ends


def _is_plain(symbol: str) -> bool:
    """Whether a wildcard may stand for it: no control character, no separator of lines."""
    number = ord(symbol)
    return number >= 0x20 and number != 0x7F and not 0x80 <= number < 0xA0 and number not in (0x2028, 0x2029)


def sample_word(pattern: str) -> str:
    """A word that the pattern of one word means: the first alternative, with ``x`` for each wildcard."""
    return "".join("x" if piece in (_ANY_MARK, _ONE_MARK) else piece for piece in _globs(pattern)[0])

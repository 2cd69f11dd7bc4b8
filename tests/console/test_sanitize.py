"""The sanitiser: nothing that a terminal would obey comes out, and chunks make no difference."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsconsole.sanitize import _RUN, MAX_LINE, Line, LineSanitizer, Span, TextStyle, _picture, safe

# Bytes that look like what a hostile host would send: whole sequences, their halves, and anything.
PIECES = st.one_of(
    st.binary(max_size=12),
    st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [
            b"\x1b[31m",
            b"\x1b[1;38;5;200m",
            b"\x1b[38;2;1;2;3m",
            b"\x1b[0m",
            b"\x1b[2J",
            b"\x1b]0;title\x07",
            b"\x1b]52;c;aGk=\x1b\\",
            b"\x1bP1$r",
            b"\x1b\\",
            b"\x1b",
            b"\xc2\x9b31m",
            b"\r\n",
            b"\r",
            b"\n",
            b"\t",
            b"[/foo]",
            "\u202eevil\u202c".encode(),
            "\u200b\ufe0f".encode(),
            "ａ漢字".encode(),
            "e\u0301\u0301\u0301\u0301\u0301".encode(),
            b"x" * 5000,
        ]
    ),
)
STREAMS = st.lists(PIECES, max_size=20).map(b"".join)


def read(data: bytes, *, cuts: list[int] | None = None) -> list[Line]:
    sanitizer = LineSanitizer()
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    lines: list[Line] = []
    for start, end in itertools.pairwise(edges):
        lines.extend(sanitizer.feed(data[start:end]))
    return lines + sanitizer.flush()


def is_inert(text: str) -> bool:
    return all(
        character == " " or (unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"))
        for character in text
    )


@given(STREAMS)
def test_no_control_character_survives(data: bytes) -> None:
    for line in read(data):
        assert is_inert(line.text), line


@given(STREAMS, st.lists(st.integers(min_value=0, max_value=10_000), max_size=8))
def test_any_split_of_the_bytes_gives_the_same_lines(data: bytes, cuts: list[int]) -> None:
    assert read(data, cuts=cuts) == read(data)


@given(STREAMS)
def test_spans_lie_inside_their_line_in_order(data: bytes) -> None:
    for line in read(data):
        edge = 0
        for span in line.spans:
            assert edge <= span.start < span.end <= len(line.text)
            edge = span.end


@given(STREAMS)
def test_lines_are_bounded(data: bytes) -> None:
    assert all(len(line.text) < MAX_LINE + 8 for line in read(data))


@given(st.text())
def test_a_name_becomes_one_inert_line(text: str) -> None:
    assert is_inert(safe(text))


@given(st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E)))
def test_plain_text_is_not_touched(text: str) -> None:
    assert safe(text) == text
    assert read(text.encode()) == ([Line(text)] if text else [])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\x1b]52;c;cm0gLXJm\x07b", "a␛b"),
        (b"a\x1b]8;;http://evil\x1b\\b", "a␛b"),
        (b"a\x1bP+q544e\x1b\\b", "a␛b"),
        (b"\x1b[2J\x1b[Hclean", "clean"),
        (b"lone \x1b", "lone ␛"),
        (b"\x1bcreset", "␛creset"),
        (b"bell\x07 null\x00 back\x08 del\x7f", "bell␇ null␀ back␈ del␡"),
        ("\u009b31mC1".encode(), "\ufffd31mC1"),
        ("a\u202eb\u2066c\u200bd\ufeffe".encode(), "abcde"),
        (b"[/foo][@click=app.quit]x[/]", "[/foo][@click=app.quit]x[/]"),
        (b"bad \xff\xfe utf-8", "bad \ufffd\ufffd utf-8"),
        (b"a\tb\tcdefghij\tk", "a       b       cdefghij        k"),
        ("漢\tx".encode(), "漢      x"),
        ("e" + "\u0301" * 50, "e" + "\u0301" * 3),
    ],
)
def test_what_a_terminal_would_obey_is_dropped_or_shown(data: bytes | str, text: str) -> None:
    raw = data.encode() if isinstance(data, str) else data
    assert [line.text for line in read(raw)] == [text]


def test_an_unfinished_sequence_does_not_swallow_the_lines_after_it() -> None:
    assert [line.text for line in read(b"\x1b]0;hidden\nseen\n\x1bPhidden\nseen too")] == ["␛", "seen", "␛", "seen too"]


def test_carriage_returns_end_lines_so_that_nothing_is_overwritten() -> None:
    assert [line.text for line in read(b"10%\r20%\r\ndone\r\n")] == ["10%", "20%", "done"]


def test_colours_and_attributes_that_cannot_hide_text_become_spans() -> None:
    (line,) = read(b"\x1b[1;31mred\x1b[0m plain \x1b[3;4mboth\x1b[m")
    assert line.text == "red plain both"
    assert line.spans == (
        Span(0, 3, TextStyle(colour="red", bold=True)),
        Span(10, 14, TextStyle(italic=True, underline=True)),
    )


def test_a_style_holds_over_the_end_of_the_line() -> None:
    first, second = read(b"\x1b[32mone\ntwo\x1b[39m")
    assert first.spans == second.spans == (Span(0, 3, TextStyle(colour="green")),)


@pytest.mark.parametrize(
    "hiding", [b"\x1b[8m", b"\x1b[7m", b"\x1b[40m", b"\x1b[48;5;0m", b"\x1b[48;2;0;0;0m", b"\x1b[5m"]
)
def test_styles_that_could_hide_text_are_ignored(hiding: bytes) -> None:
    assert read(hiding + b"seen") == [Line("seen")]


def test_what_is_taken_many_at_a_time_is_inert_by_itself() -> None:
    passed = [chr(point) for point in range(0x110000) if _RUN.fullmatch(chr(point))]
    assert len(passed) > 20_000
    assert [character for character in passed if _picture(character) != character or not is_inert(character)] == []


def test_tabs_cost_no_more_than_text() -> None:
    # A scan of the line for each tab would look at a million characters here.
    (line,) = read(b"\t" * 2000)
    assert len(line.text) == 16_000


def test_marks_are_counted_from_their_letter_however_the_bytes_are_cut() -> None:
    data = "a\u0301\u0301\u0301j\u0301\u0301\u0301\n".encode()
    whole = LineSanitizer().feed(data)
    pieces = LineSanitizer()
    assert [line for byte in data for line in pieces.feed(bytes((byte,)))] == whole
    assert whole[0].text.count("\u0301") == 6

"""Target expressions against a naive oracle, and the errors that an operator reads."""

from __future__ import annotations

import fnmatch
import ipaddress
import subprocess
import sys
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libstaragent import codes
from libstaragent.errors import StarAgentError
from libstaragent.targets import HostFacts, fold, limits, parse, select

HOSTS = [
    HostFacts(
        id=f"01J{index:023d}",
        name=f"{kind}{number:02d}",
        room="hz" if number % 2 else "sh",
        addresses=(f"10.{index % 3}.0.{number}", f"fd00::{number:x}%eth0", "not an address"),
        labels={"tier": kind} if number < 4 else {},
        facts={"os": "linux" if number % 3 else "macos"},
    )
    for index, (kind, number) in enumerate(product(("web", "db"), range(1, 9)))
]
GROUPS = {"front": "web[01-04]", "odd": "room=hz", "both": "@front & @odd"}
NAMES = {host.name for host in HOSTS}


def names(expression: str, hosts: list[HostFacts] = HOSTS) -> list[str]:
    return [host.name for host in select(parse(expression), hosts, GROUPS)]


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("web[01-03]", "web[01-03]"),
        ("web[01-08/3]", "web[01,04,07]"),
        ("web[01,03-04],db08", "db08,web[01,03-04]"),
        ("all & !web*", "db[01-08]"),
        ("*", "db[01-08],web[01-08]"),
        ("web0? & !(web01 | web02)", "web[03-08]"),
        ("*[07-08]", "db[07-08],web[07-08]"),
        ("@front", "web[01-04]"),
        ("@both", "web[01,03]"),
        ("tier=web", "web[01-03]"),
        ("tier=*", "db[01-03],web[01-03]"),
        ('os="mac*",name=db01', "db01"),
        ("os=mac* & room=sh", "db06,web06"),
        ("10.1.0.0/16 & web*", "web[02,05,08]"),
        ("fd00::3", "db03,web03"),
        ("fd00::/126", "db[01-03],web[01-03]"),
        ("web01|web02&room=sh", "web[01-02]"),
        ("!!web01", "web01"),
    ],
)
def test_an_expression_means_these_hosts(expression: str, chosen: str) -> None:
    assert fold(names(expression)) == chosen


@pytest.mark.parametrize(
    ("expression", "at", "what"),
    [
        ("", 1, "a target is missing"),
        ("web[1-", 7, "a number is missing"),
        ("web[1-3", 4, "this [ is never closed"),
        ("(web1", 1, "this ( is never closed"),
        ("web1)", 5, "nothing opens this )"),
        ("web1 web2", 6, "two targets need"),
        ("web[3-1]", 5, "ends before it begins"),
        ("web[01-100]", 5, "same number of digits"),
        ("web[1-5/0]", 5, "a step of 0"),
        ("web[0-9999999999]", 7, "more than 9 digits"),
        ("a,@", 4, "a group's name is missing"),
        ("os=", 4, "a value is missing"),
        ('os="x', 4, "this quote is never closed"),
        ("10.0.0.1/8", 1, "has host bits set"),
        ("x & 10.0.0.999", 5, "10.0.0.999"),
        ("\x1b[31m", 1, "cannot begin a target"),
        ("web[0-999999999]", 1, "more than 65536 names"),
        ("[0-99][0-99][0-99]", 1, "more than 65536 names"),
        ("[1][1][1][1][1]", 13, "more than 4 ranges"),
        ("(" * 100, 33, "levels of"),
        ("!" * 100 + "x", 33, "levels of"),
        ("a*," * 300 + "b", 769, "more than 256"),
        ("*[" + "1," * 40 + "1]x", 1, "ranges beside a wildcard"),
        ("x" * (limits.MAX_TEXT + 1), limits.MAX_TEXT + 1, "more than 65536 characters"),
    ],
)
def test_a_mistake_is_told_with_its_place(expression: str, at: int, what: str) -> None:
    with pytest.raises(StarAgentError) as raised:
        parse(expression)
    assert raised.value.code is codes.TARGET_SYNTAX
    assert f"{what}" in raised.value.detail
    assert f"at position {at}\n" in raised.value.detail
    _, shown, caret = raised.value.detail.split("\n")
    assert shown.isprintable()
    assert caret.strip() == "^"
    assert shown[2:][: caret.index("^") - 2] == "".join(
        symbol if symbol.isprintable() else "?" for symbol in expression[max(0, at - 41) : at - 1]
    )


def test_unknown_names_are_told_with_their_nearest_and_nothing_is_chosen() -> None:
    with pytest.raises(StarAgentError) as raised:
        names("web[01-10] & !wbe02")
    assert raised.value.code is codes.HOST_UNKNOWN
    assert raised.value.detail.startswith("wbe02,web[09-10]; ")
    assert "for wbe02 did you mean web02" in raised.value.detail


def test_thousands_of_unknown_names_make_a_short_error() -> None:
    with pytest.raises(StarAgentError) as raised:
        names(",".join(f"x{'a' * (number % 40)}b{number}" for number in range(2000)))
    assert len(raised.value.detail) < 1000
    assert "(2000 names)" in raised.value.detail


def test_an_empty_choice_is_an_error() -> None:
    with pytest.raises(StarAgentError) as raised:
        names("web01 & db01")
    assert raised.value.code is codes.NO_TARGET


@pytest.mark.parametrize("ask", ["select", "matches", "may_match"])
def test_an_unknown_group_is_an_error_even_under_not(ask: str) -> None:
    expression = parse("all & !@nobody")
    with pytest.raises(StarAgentError) as raised:
        if ask == "select":
            select(expression, HOSTS, GROUPS)
        else:
            getattr(expression, ask)(HOSTS[0], GROUPS)
    assert raised.value.code is codes.GROUP_UNKNOWN


def test_a_host_with_the_name_of_a_keyword_or_an_address_folds_to_itself() -> None:
    hosts = [HostFacts(id=name, name=name) for name in ("all", "10.0.0.1", "web")]
    for host in hosts:
        assert select(parse(fold([host.name])), hosts, {}) == [host]


def test_groups_in_a_circle_or_too_deep_are_an_error() -> None:
    deep = {f"g{level}": f"@g{level + 1}" for level in range(40)}
    for groups in ({"g0": "@g1", "g1": "!@g0"}, deep):
        for ask in (
            lambda groups: select(parse("@g0"), HOSTS, groups),
            lambda groups: parse("@g0").matches(HOSTS[0], groups),
        ):
            with pytest.raises(StarAgentError) as raised:
                ask(groups)
            assert raised.value.code is codes.GROUP_CIRCLE


def test_groups_of_groups_do_not_multiply() -> None:
    groups = {f"g{level}": ",".join([f"@g{level + 1}"] * 200) for level in range(15)} | {"g15": "web01"}
    assert [host.name for host in select(parse("@g0"), HOSTS, groups)] == ["web01"]
    assert parse("@g0").matches(HOSTS[0], groups)


def test_only_a_decided_no_refuses_one_who_does_not_know_all_labels() -> None:
    agent = HostFacts(id="1", name="web01", facts={"os": "linux"})
    assert parse("rack=7").may_match(agent, {})
    assert parse("!rack=7").may_match(agent, {})
    assert not parse("rack=7").matches(agent, {})
    assert not parse("rack=7 & db*").may_match(agent, {})
    assert not parse("os=macos & rack=7").may_match(agent, {})
    assert parse("os=macos | rack=7").may_match(agent, {})


# Properties -----------------------------------------------------------------------------------------------------------

# An expression and, beside it, the names it means by the plainest reading.
Meant = tuple[str, frozenset[str]]


def _where(test) -> frozenset[str]:
    return frozenset(host.name for host in HOSTS if test(host))


def _range(kind: str, first: int, last: int, step: int) -> Meant:
    text = f"{kind}[{first:02d}-{last:02d}" + (f"/{step}]" if step > 1 else "]")
    return text, frozenset(f"{kind}{number:02d}" for number in range(first, last + 1, step))


def _network(text: str) -> Meant:
    network = ipaddress.ip_network(text)
    return text, _where(lambda host: any(ipaddress.ip_address(a.split("%")[0]) in network for a in host.addresses[:2]))


def _glob(text: str) -> Meant:
    return text, _where(lambda host: fnmatch.fnmatchcase(host.name, text))


bounds = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(sorted)
leaves: st.SearchStrategy[Meant] = st.one_of(
    st.sampled_from(sorted(NAMES)).map(lambda name: (name, frozenset((name,)))),
    st.builds(lambda k, b, s: _range(k, b[0], b[1], s), st.sampled_from(("web", "db")), bounds, st.integers(1, 3)),
    st.sampled_from(("*", "web*", "?b0?", "*01", "d*4", "*b*")).map(_glob),
    st.sampled_from(("10.0.0.0/16", "10.0.0.0/14", "10.1.0.5", "fd00::4/126", "::/0", "fd00::8")).map(_network),
    st.sampled_from(("hz", "sh")).map(lambda room: (f"room={room}", _where(lambda host: host.room == room))),
    st.just(("os=l*x", _where(lambda host: host.facts["os"] == "linux"))),
    st.just(("tier=web", _where(lambda host: host.labels.get("tier") == "web"))),
    st.just(("@front", frozenset(f"web{number:02d}" for number in range(1, 5)))),
    st.just(("@both", frozenset(("web01", "web03")))),
    st.just(("all", frozenset(NAMES))),
)


def _grow(inner: st.SearchStrategy[Meant]) -> st.SearchStrategy[Meant]:
    return st.one_of(
        inner.map(lambda one: (f"!({one[0]})", frozenset(NAMES) - one[1])),
        st.builds(lambda a, b: (f"({a[0]}) & ({b[0]})", a[1] & b[1]), inner, inner),
        st.builds(lambda a, b, o: (f"({a[0]}){o}({b[0]})", a[1] | b[1]), inner, inner, st.sampled_from("|,")),
        st.builds(lambda a, b, c: (f"{a[0]},{b[0]} & !{c[0]}", a[1] | (b[1] - c[1])), leaves, leaves, leaves),
    )


@given(st.recursive(leaves, _grow, max_leaves=12))
def test_select_and_matches_mean_what_plain_sets_mean(meant: Meant) -> None:
    text, wanted = meant
    expression = parse(text)
    assert {host.name for host in HOSTS if expression.matches(host, GROUPS)} == wanted
    try:
        chosen = {host.name for host in select(expression, HOSTS, GROUPS)}
    except StarAgentError as error:
        assert error.code is codes.NO_TARGET
        chosen = set()
    assert chosen == wanted
    assert all(expression.may_match(host, GROUPS) for host in HOSTS if host.name in wanted)


@given(st.text(max_size=60) | st.text(alphabet='web019[]-/,&|!()@*?=:." ', max_size=40))
def test_any_text_gives_an_answer_or_a_coded_error(text: str) -> None:
    try:
        expression = parse(text)
        assert isinstance(expression.matches(HOSTS[0], GROUPS), bool)
        select(expression, HOSTS, GROUPS)
    except StarAgentError as error:
        assert error.code in (codes.TARGET_SYNTAX, codes.HOST_UNKNOWN, codes.NO_TARGET, codes.GROUP_UNKNOWN)


host_names = st.from_regex(r"[a-z][a-z0-9.-]{0,12}", fullmatch=True).filter(lambda name: name != "all")


@given(st.sets(host_names | st.builds("n{}-{:02d}".format, st.integers(0, 12), st.integers(0, 5)), max_size=40))
def test_folded_names_read_back_as_the_same_names(wanted: set[str]) -> None:
    hosts = [HostFacts(id=name, name=name) for name in wanted]
    folded = fold(wanted)
    if not wanted:
        assert folded == ""
        return
    expression = parse(folded)
    assert {host.name for host in select(expression, hosts, {})} == wanted
    assert all(expression.matches(host, {}) for host in hosts)
    assert fold(sorted(wanted, reverse=True)) == folded


@given(st.text(alphabet="0123456789", min_size=1, max_size=4), bounds, st.integers(0, 3), st.integers(1, 3))
def test_a_range_holds_just_the_numbers_that_clustershell_says(
    digits: str, ends: list[int], width: int, step: int
) -> None:
    from ClusterShell.RangeSet import RangeSet

    written = f"{ends[0] * 7:0{width}d}-{ends[1] * 7:0{width}d}/{step}"
    try:
        expected = set(RangeSet(written).striter())
    except ValueError:  # ClusterShell refuses padding of different lengths, and so do we
        with pytest.raises(StarAgentError):
            parse(f"h[{written}]")
        return
    expression = parse(f"h[{written}]")
    candidates = {digits, *expected, *(number.lstrip("0") or "0" for number in expected)}
    matched = {each for each in candidates if expression.matches(HostFacts(id="", name=f"h{each}"), {})}
    assert matched == candidates & expected


def test_judging_one_host_loads_no_library() -> None:
    script = (
        "import sys\n"
        "from libstaragent.targets import HostFacts, parse\n"
        "host = HostFacts(id='', name='web07')\n"
        "assert parse('web[01-09] & !@x').matches(host, {'x': 'db*'})\n"
        "print(sorted({'ClusterShell', 'ipaddress', 'difflib'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")

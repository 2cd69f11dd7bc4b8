"""Rules and what they mean: each file in `decisions/` is a policy with cases, and an oracle judges random ones."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libstaragent.model.host import HostFacts
from libstaragent.security.acts import AtBoot as Boot
from libstaragent.security.acts import Exec, Put, Schedule
from libstaragent.security.policy.ask import Ask, asked_of
from libstaragent.security.policy.cases import judge_case
from libstaragent.security.policy.decision import Asker, Policy
from libstaragent.security.policy.model import FOUNDERS, Hours, Limits, Rate, Rule, check_rules
from libstaragent.security.policy.paths import check_path_pattern, matches_path
from libstaragent.security.policy.rates import Rates
from libstaragent.security.policy.reader import read_policy
from libstaragent.security.policy.words import check_argv_pattern, matches_argv, matches_word, split_words
from libstaragent.security.policy.writing import policy_text

DECISIONS = sorted((Path(__file__).parent / "decisions").glob("*.toml"))
# Wednesday 2026-11-25, 12:00 UTC
NOON = 1_795_608_000_000


@pytest.mark.parametrize("file", DECISIONS, ids=lambda file: file.stem)
def test_each_case_of_a_policy_comes_out_as_it_expects(file: Path) -> None:
    policy = read_policy(file.read_text(), file=file.name)
    rules = Policy(policy.rules, policy.labels, policy.groups)
    outcomes = [judge_case(rules, case, policy.hosts, now_ms=NOON) for case in policy.cases]
    assert [f"{o.case.place}: {o.verdict}" for o in outcomes if not o.holds] == []
    assert {o.case.expect_allow for o in outcomes} == {True, False}, "a policy is tried from both sides"


@pytest.mark.parametrize("file", DECISIONS, ids=lambda file: file.stem)
def test_a_policy_that_is_written_out_is_the_same_when_it_is_read(file: Path) -> None:
    policy = read_policy(file.read_text())
    again = read_policy(policy_text(policy.rules, policy.groups, policy.labels))
    assert (again.rules, again.groups, again.labels) == (policy.rules, policy.groups, policy.labels)


def test_the_policy_of_the_guide_comes_out_as_it_says() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "rules.md").read_text(encoding="utf-8")
    policy = read_policy(guide.partition("```toml\n")[2].partition("```")[0])
    rules = Policy(policy.rules, policy.labels, policy.groups)
    assert [judge_case(rules, case, policy.hosts, now_ms=NOON).holds for case in policy.cases] == [True, True]


# Patterns ---------------------------------------------------------------------------------------------------------

WORDS = st.text(alphabet="ab*?", max_size=6).filter(lambda word: "**" not in word)


@given(WORDS, st.text(alphabet="ab\n", max_size=6))
@example("*b", "a\nb")
def test_a_word_matches_as_fnmatch_says_and_wildcards_take_no_line_break(pattern: str, word: str) -> None:
    if "\n" in word:
        assert not matches_word(pattern, word), "only wildcards could stand for it"
    else:
        assert matches_word(pattern, word) == fnmatch.fnmatchcase(word, pattern)


@given(
    st.lists(WORDS, min_size=1, max_size=3), st.booleans(), st.lists(st.text(alphabet="ab ", max_size=3), max_size=5)
)
def test_an_argv_is_matched_word_by_word_and_never_joined(patterns: list[str], rest: bool, argv: list[str]) -> None:
    wanted = (*patterns, "**") if rest else tuple(patterns)
    long_enough = len(argv) >= len(patterns) if rest else len(argv) == len(patterns)
    expected = long_enough and all(
        fnmatch.fnmatchcase(word, pattern) for pattern, word in zip(patterns, argv, strict=False)
    )
    assert matches_argv(wanted, tuple(argv)) == expected


@given(
    st.lists(st.text(min_size=1, max_size=3, alphabet="abc"), min_size=1, max_size=3),
    st.text(alphabet="abc", max_size=5),
)
def test_alternatives_are_one_of_several(choices: list[str], word: str) -> None:
    assert matches_word("x{" + ",".join(choices) + "}*", "x" + word) == any(word.startswith(one) for one in choices)


@given(st.text())
@example("^uptime$")
@example("r.*")
@example("\\u{110000}")
@example("{" * 50)
@example("*a" * 200)
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    words = split_words(text)
    try:
        check_argv_pattern(words)
    except ValueError as error:
        assert str(error)
    else:
        matches_argv(words, ("a",) * len(words))


@given(st.text(alphabet="/ab.*", max_size=12), st.text(alphabet="/ab.", max_size=12))
def test_a_path_that_is_not_plain_matches_nothing(pattern: str, path: str) -> None:
    try:
        check_path_pattern(pattern)
    except ValueError:
        return
    if matches_path(pattern, path):
        assert path.startswith("/") and "//" not in path
        assert not {"", ".", ".."} & set(path[1:].split("/")) or path == "/"


# The file ---------------------------------------------------------------------------------------------------------

RULE = '[[rule]]\nname = "r"\nwho = ["ann"]\n'
BROKEN = {
    "no TOML": ("[[rule]\n", "line 1, column 7"),
    "an unknown key": (RULE + 'runn = ["uptime"]\n', "line 4, column 1: unknown key 'runn'; did you mean run?"),
    "an unknown group": ('[groups]\nfront = "web*"\n' + RULE + 'run = ["ls"]\non = "!@frond"\n', "mean @front?"),
    "an unknown group's group": ('[groups]\nfront = "@back"\n' + RULE + 'run = ["ls"]\n', "line 2, column 1: front"),
    "a group that leads back to itself": ('[groups]\na = "@b"\nb = "@a"\n' + RULE + 'run = ["ls"]\n', "@b → @a → @b"),
    "an unknown table": ('[[rules]]\nname = "r"\n', "did you mean rule?"),
    "an unknown limit": (RULE + 'run = ["x"]\nlimits = { target = 5 }\n', "line 5, column 12: unknown key 'target'"),
    "a regular expression": (RULE + 'run = ["^uptime$"]\n', "line 4, column 9: run: ^ in '^uptime$': patterns are no"),
    "a class of a regular expression": (RULE + 'run = ["kill [0-9]"]\n', "patterns are no regular expressions"),
    "a look-alike": (RULE + 'run = ["\u0430pt update"]\n', "U+0430 in"),
    "a look-alike in a name": ('[[rule]]\nname = "\u0430"\nwho = ["ann"]\n', "line 2, column 1: name"),
    "an operator's look-alike": ('[[rule]]\nname = "r"\nwho = ["\u0430nn"]\nrun = ["x"]\n', "U+0430 is not ASCII"),
    "a word with a line break": (RULE + 'run = [["echo", "a\\nb"]]\n', "control character U+000A"),
    "a word with NUL": (RULE + 'run = [["echo", "a\\u0000b"]]\n', "control character U+0000"),
    "two rules of one name": (RULE + 'run = ["x"]\n' + RULE + 'run = ["y"]\n', "line 6, column 1: there is"),
    "a rule that allows nothing": (RULE, "line 1, column 1: rule r allows nothing"),
    "a rule about nobody": ('[[rule]]\nname = "r"\nrun = ["x"]\n', "does not say who"),
    "a path with ..": (RULE + 'put = ["/etc/../x"]\n', "line 4, column 9: put: path '/etc/../x' is not plain"),
    "an expression that is none": (RULE + 'run = ["x"]\non = "web[1-"\n', "line 5, column 1: on:"),
    "a limit in a deny rule": ('[[rule]]\nname = "r"\neffect = "deny"\nlimits = { targets = 1 }\n', "belongs to rules"),
    "a network that is none": (RULE + 'run = ["x"]\nfrom = ["10.0.0.0/99"]\n', "line 5, column 10: from:"),
    "a time that is none": (RULE + 'run = ["x"]\nlimits = { timeout = "soon" }\n', "timeout: 'soon' is not a time"),
    "a zone that is none": (RULE + 'run = ["x"]\nwhen = { zone = "Mars/Olympus" }\n', "is no time zone"),
    "a chain of imports as a zone": (RULE + f'run = ["x"]\nwhen = {{ zone = "a{"." * 400}/b" }}\n', "is no time zone"),
    "a case with NUL": ('[[case]]\noperator = "ann"\ntargets = "a"\nargv = ["a\\u0000"]\nexpect = "deny"\n', "NUL"),
    "** in the middle": (RULE + 'run = ["a ** b"]\n', "** may only be the last word"),
    "a type that is another": (RULE + "run = 5\n", "line 4, column 1: run is a list"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_read_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(Exception, match="SA-8001") as caught:
        read_policy(text, file="p.toml")
    assert said in str(caught.value)
    assert "p.toml" in str(caught.value)


TOML = st.text(alphabet='[]{}=",\n ruleanwho*.^"', max_size=60)


@given(st.one_of(st.text(max_size=80), TOML, TOML.map(lambda text: RULE + text)))
@settings(max_examples=300)
def test_any_text_is_a_policy_or_a_coded_refusal(text: str) -> None:
    try:
        policy = read_policy(text)
    except Exception as error:
        assert getattr(error, "code", None) is not None and error.code.code == "SA-8001"  # type: ignore[attr-defined]
    else:
        check_rules(policy.rules)


# Decisions against an oracle --------------------------------------------------------------------------------------

NAMES = ("ann", "bob")
HOSTS = tuple(HostFacts(id="0" * 26, name=name, room="main") for name in ("web01", "web02", "db01"))
COMMANDS = (("uptime",), ("uptime", "-p"), ("reboot",))
PATTERNS = (("uptime",), ("uptime", "**"), ("**",), ("re*",))


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    found: list[Rule] = []
    for number in range(draw(st.integers(0, 5))):
        allows = draw(st.booleans())
        found.append(
            Rule(
                name=f"r{number}",
                effect="allow" if allows else "deny",
                who=tuple(draw(st.lists(st.sampled_from(("ann", "bob", "role:web", "*")), min_size=1, max_size=2))),
                on=draw(st.sampled_from(("all", "web*", "db01", "web01"))),
                run=tuple(draw(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=2))),
                shell=draw(st.booleans()),
                users=("*",) if not allows else draw(st.sampled_from((("@agent",), ("root",), ("*",)))),
                limits=Limits(targets=draw(st.sampled_from((None, 1, 2)))) if allows else Limits(),
            )
        )
    return tuple(found)


def oracle(
    found: tuple[Rule, ...], name: str, argv: tuple[str, ...], shell: bool, user: str | None, names: set[str]
) -> bool:
    """The rules in the plainest words there are."""
    roles = {"ann": {"web"}, "bob": set()}[name]

    def about(rule: Rule) -> bool:
        return "*" in rule.who or name in rule.who or any(f"role:{role}" in rule.who for role in roles)

    def runs(rule: Rule) -> bool:
        return any(
            (
                argv[: len(p) - 1] == p[:-1]
                if p[-1] == "**"
                else len(p) == len(argv) and all(map(fnmatch.fnmatchcase, argv, p))
            )
            for p in rule.run
        )

    where = {"all": {"web01", "web02", "db01"}, "web*": {"web01", "web02"}, "db01": {"db01"}, "web01": {"web01"}}
    as_whom = lambda rule: "*" in rule.users or (user or "@agent") in rule.users  # noqa: E731
    for rule in found:
        hit = rule.effect == "deny" and about(rule) and names & where[rule.on] and as_whom(rule)
        if hit and (runs(rule) or (shell and rule.shell)):
            return False
    for rule in found:
        if rule.effect == "allow" and about(rule) and names <= where[rule.on] and as_whom(rule):
            small = rule.limits.targets is None or len(names) <= rule.limits.targets
            if small and (rule.shell if shell else runs(rule)):
                return True
    return False


@given(
    rules(),
    st.sampled_from(NAMES),
    st.sampled_from(COMMANDS),
    st.booleans(),
    st.sampled_from((None, "root")),
    st.lists(st.sampled_from(HOSTS), min_size=1, unique_by=lambda host: host.name),
)
@settings(max_examples=500)
def test_a_decision_is_the_oracles(
    found: tuple[Rule, ...], name: str, argv: tuple[str, ...], shell: bool, user: str | None, hosts: list[HostFacts]
) -> None:
    policy = Policy(found, {}, {})
    argv = ("/bin/sh", "-c", "uptime") if shell else argv
    ask = asked_of(Exec(argv=argv, shell=shell, user=user), count=len(hosts))
    asker = Asker(
        name=name,
        roles=("operator", "web") if name == "ann" else ("operator",),
        source=None,
        now_ms=NOON,
        hosts=tuple(hosts),
    )
    verdict = policy.judge(ask, asker)
    assert (verdict.code is None) == oracle(found, name, argv, shell, user, {host.name for host in hosts})


def judged(rule: Rule, ask: Ask, **fields: object) -> bool:
    asker = Asker(
        **{"name": "ann", "roles": ("operator",), "source": None, "now_ms": NOON, "hosts": HOSTS[:1], **fields}
    )  # type: ignore[arg-type]
    return Policy((rule,), {}, {}).judge(ask, asker).code is None


def allow(**fields: object) -> Rule:
    return Rule(**{"name": "r", "effect": "allow", "who": ("ann",), "run": (("**",),), **fields})  # type: ignore[arg-type]


TRUE = Exec(argv=("true",))
NARROWER: dict[str, tuple[object, dict[str, object], dict[str, object]]] = {
    "as": (Exec(argv=("true",), user="root"), {}, {"users": ("root",)}),
    "variables": (Exec(argv=("true",), env={"LD_PRELOAD": "x"}), {"env": ("LANG",)}, {"env": ("LD_*",)}),
    "input": (Exec(argv=("true",), stdin=b"x"), {}, {"stdin": True}),
    "a folder": (Exec(argv=("true",), cwd="/tmp/x"), {"cwd": ("/srv/**",)}, {"cwd": ("/tmp/*",)}),
    "a shell": (Exec(argv=("/bin/sh", "-c", "x"), shell=True), {}, {"shell": True}),
    "a time": (Exec(argv=("true",), timeout_ms=9), {"limits": Limits(timeout_ms=8)}, {"limits": Limits(timeout_ms=9)}),
    "output": (TRUE, {"limits": Limits(output=1)}, {"limits": Limits(output=192 * 1024)}),
    "a spool": (TRUE, {"limits": Limits(spool=1)}, {"limits": Limits(spool=4 * 1024 * 1024)}),
    "a schedule": (Schedule("s", Boot(), TRUE, 1), {}, {"schedule": True}),
    "a schedule of long life": (
        Schedule("s", Boot(), TRUE, 5000),
        {"schedule": True, "limits": Limits(life_ms=4999)},
        {"schedule": True, "limits": Limits(life_ms=5000)},
    ),
    "a file": (Put("/srv/x", 1, bytes(32)), {"put": ("/etc/*",)}, {"put": ("/srv/*",)}),
    "a large file": (
        Put("/srv/x", 2, bytes(32)),
        {"put": ("/srv/*",), "limits": Limits(file=1)},
        {"put": ("/srv/*",), "limits": Limits(file=2)},
    ),
    "a file of root's": (
        Put("/srv/x", 1, bytes(32), owner="root"),
        {"put": ("/srv/*",)},
        {"put": ("/srv/*",), "users": ("@agent", "root")},
    ),
    "a file with rights of its owner": (
        Put("/srv/x", 1, bytes(32), mode=0o4755),
        {"put": ("/srv/*",)},
        {"put": ("/srv/*",), "set_id": True},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("act", "less", "enough"), NARROWER.values(), ids=NARROWER)
def test_what_is_not_named_is_not_allowed(act: Exec, less: dict[str, object], enough: dict[str, object]) -> None:
    assert not judged(allow(**less), asked_of(act, count=1))
    assert judged(allow(**enough), asked_of(act, count=1))
    founders = Asker(name="ann", roles=("operator",), source=None, now_ms=NOON, hosts=HOSTS[:1])
    assert Policy((FOUNDERS,), {}, {}).judge(asked_of(act, count=1), founders).code is None


def test_hours_are_judged_in_their_zone_and_over_midnight() -> None:
    night = allow(hours=(Hours(days=(4,), start=22 * 60, end=6 * 60, zone="Europe/Berlin"),))
    friday_2130_utc = 1_795_815_000_000
    assert judged(night, asked_of(TRUE, count=1), now_ms=friday_2130_utc)
    assert judged(night, asked_of(TRUE, count=1), now_ms=friday_2130_utc + 7 * 3_600_000), "05:30 of Saturday"
    assert not judged(night, asked_of(TRUE, count=1), now_ms=friday_2130_utc - 3_600_000), "21:30 of Friday"
    assert not judged(night, asked_of(TRUE, count=1), now_ms=friday_2130_utc + 24 * 3_600_000), "22:30 of Saturday"


def test_a_zone_that_the_machine_does_not_know_allows_nothing_and_forbids_all_the_same() -> None:
    hours = (Hours(days=tuple(range(7)), start=0, end=1440, zone="Mars/Olympus"),)
    assert not judged(allow(hours=hours), asked_of(TRUE, count=1))
    forbidding = Rule(name="d", effect="deny", who=("*",), users=("*",), hours=hours)
    asker = Asker(name="ann", roles=(), source=None, now_ms=NOON, hosts=HOSTS[:1])
    assert Policy((allow(), forbidding), {}, {}).judge(asked_of(TRUE, count=1), asker).rule == "d"


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 8)), max_size=40))
def test_a_rate_lets_no_more_through_in_any_period(steps: list[tuple[int, int]]) -> None:
    rule = allow(limits=Limits(rate=Rate(count=3, per_ms=100)))
    rates = Rates()
    now = 0
    taken: dict[str, int] = {}
    for pause, identity in steps:
        now += pause
        if rates.has_room(rule, "ann", str(identity), now):
            rates.count(rule, "ann", str(identity), now)
            taken = {name: at for name, at in taken.items() if at > now - 100}
            taken.setdefault(str(identity), now)
            assert len(taken) <= 3

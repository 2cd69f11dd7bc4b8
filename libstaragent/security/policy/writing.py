"""Rules of a roster as the policy file that would make them.

Not here: reading it back (`reader`; a property test holds the two together). Rules: pure; the same rules are the same
text; what a reader would fill in is left out.
"""

from __future__ import annotations

__all__ = ("policy_text",)

from collections.abc import Iterable, Mapping

from libstaragent.security.policy.model import ANY, DAY_MINUTES, OWN_USER, Hours, Limits, Rule
from libstaragent.security.policy.units import DAYS, clock_text, ms_text, rate_text, size_text
from libstaragent.security.policy.words import split_words

_ALL_DAYS = tuple(range(7))


def policy_text(rules: Iterable[Rule], groups: Mapping[str, str], labels: Mapping[str, str]) -> str:
    """The file."""
    parts: list[str] = []
    for heading, table in (("groups", groups), ("labels", labels)):
        if table:
            lines = (f"{_text(name)} = {_text(expression)}" for name, expression in sorted(table.items()))
            parts.append("\n".join((f"[{heading}]", *lines)))
    parts.extend("\n".join(_rule(rule)) for rule in rules)
    return "\n\n".join(parts) + "\n" if parts else ""


def _rule(rule: Rule) -> list[str]:
    allows = rule.effect == "allow"
    lines = ["[[rule]]", f"name = {_text(rule.name)}", f"effect = {_text(rule.effect)}", f"who = {_list(rule.who)}"]
    if rule.sources:
        lines.append(f"from = {_list(rule.sources)}")
    if rule.on != "all":
        lines.append(f"on = {_text(rule.on)}")
    if rule.run:
        lines.append(f"run = [{', '.join(_pattern(pattern) for pattern in rule.run)}]")
    for key, paths in (("put", rule.put), ("fetch", rule.fetch)):
        if paths:
            lines.append(f"{key} = {_list(paths)}")
    lines.extend(f"{key} = true" for key in ("shell", "schedule", "manage") if getattr(rule, key))
    if rule.users != ((OWN_USER,) if allows else (ANY,)):
        lines.append(f"as = {_list(rule.users)}")
    for key, entries in (("env", rule.env), ("cwd", rule.cwd)):
        if entries:
            lines.append(f"{key} = {_list(entries)}")
    lines.extend(f"{key} = true" for key in ("stdin", "set_id", "signed_results") if getattr(rule, key))
    limits = _limits(rule.limits)
    if limits:
        lines.append(f"limits = {{ {', '.join(limits)} }}")
    if rule.hours:
        lines.append(f"when = [{', '.join(map(_hours, rule.hours))}]")
    return lines


def _limits(limits: Limits) -> list[str]:
    found: list[str] = []
    for key in ("targets", "window"):
        value = getattr(limits, key)
        if value is not None:
            found.append(f"{key} = {value}")
    if limits.timeout_ms is not None:
        found.append(f"timeout = {_text(ms_text(limits.timeout_ms))}")
    if limits.rate is not None:
        found.append(f"rate = {_text(rate_text(limits.rate))}")
    for key in ("output", "spool", "file"):
        value = getattr(limits, key)
        if value is not None:
            found.append(f"{key} = {_text(size_text(value))}")
    if limits.life_ms is not None:
        found.append(f"life = {_text(ms_text(limits.life_ms))}")
    if limits.waves:
        found.append("waves = true")
    return found


def _hours(hours: Hours) -> str:
    parts: list[str] = []
    if hours.days != _ALL_DAYS:
        parts.append(f"days = {_list(tuple(DAYS[day] for day in hours.days))}")
    if (hours.start, hours.end) != (0, DAY_MINUTES):
        parts.append(f"hours = {_text(f'{clock_text(hours.start)}-{clock_text(hours.end)}')}")
    if hours.zone != "UTC" or not parts:
        parts.append(f"zone = {_text(hours.zone)}")
    return f"{{ {', '.join(parts)} }}"


def _pattern(words: tuple[str, ...]) -> str:
    joined = " ".join(words)
    return _text(joined) if split_words(joined) == words else _list(words)


def _list(entries: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, entries))}]"


def _text(text: str) -> str:
    plain = all(" " <= symbol <= "~" for symbol in text)
    if "\\" in text and plain and "'" not in text:
        return f"'{text}'"
    written = "".join(
        f"\\{symbol}" if symbol in '"\\' else symbol if " " <= symbol <= "~" else f"\\U{ord(symbol):08x}"
        for symbol in text
    )
    return f'"{written}"'

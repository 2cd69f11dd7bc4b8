"""What in a policy file is allowed to be written and is hardly meant: warnings for its author.

Not here: what is an error (`reader`). Rules: pure; a warning names the rule and what to do instead.
"""

from __future__ import annotations

__all__ = ("warnings_of",)

from collections.abc import Iterator

from libstaragent.security.policy.model import ANY, Rule
from libstaragent.security.policy.reader import PolicyFile
from libstaragent.security.policy.words import REST, matches_word, sample_word

# Programs that run what their arguments say. A pattern that lets one through with words of its own choice is a shell.
_INTERPRETERS = (
    "sh", "bash", "dash", "zsh", "ksh", "busybox", "env", "sudo", "su", "doas", "xargs", "find", "python", "python3",
    "perl", "ruby", "node", "awk", "ssh", "nsenter", "chroot", "systemd-run", "nohup", "timeout", "nice", "setsid",
    "vi", "vim", "less", "tar", "rsync", "git", "docker",
)  # fmt: skip


def warnings_of(policy: PolicyFile) -> list[str]:
    """Each a sentence that begins with the rule's name."""
    found: list[str] = []
    for at, rule in enumerate(policy.rules):
        found.extend(f"rule {rule.name}: {text}" for text in _of(rule))
        if rule.effect == "allow":
            found.extend(
                f"rule {rule.name}: rule {before.name} allows all of it already"
                for before in policy.rules[:at]
                if _covers(before, rule)
            )
    if not any(rule.effect == "allow" for rule in policy.rules):
        found.append("no rule allows anything: nobody will be able to run anything")
    return found


def _of(rule: Rule) -> Iterator[str]:
    if rule.effect == "deny":
        if rule.run and not rule.shell:
            yield "it forbids commands by their words; a shell or another program can run the same: deny by who and on"
        return
    for pattern in rule.run:
        if pattern == (REST,) and not rule.shell:
            yield "** is every command, a shell too, though it does not say shell = true"
        elif not rule.shell and pattern[0] != REST:
            free = pattern[-1] == REST or any(sample_word(word) != word for word in pattern[1:])
            names = [name for name in _INTERPRETERS if _is_called(pattern[0], name)]
            if names and free:
                yield f"{' '.join(pattern)!r} lets {names[0]} run what its words say: that is a shell"
        for word in pattern:
            if ".*" in word:
                yield f"{word!r}: a . is a . here, and * any letters; this is no regular expression"
    if ANY in rule.who:
        yield "who is *: every operator, those that come later too"
    if rule.env and ANY in rule.env and rule.run and (REST,) not in rule.run:
        yield "env = * lets PATH and LD_PRELOAD make any program of the one that is named"


def _is_called(pattern: str, name: str) -> bool:
    return (
        matches_word(pattern, name)
        or matches_word(pattern, f"/bin/{name}")
        or matches_word(pattern, f"/usr/bin/{name}")
    )


def _covers(before: Rule, rule: Rule) -> bool:
    """Whether all fields of `rule` are among those of `before`, as far as that is seen without trying."""
    if before.effect != "allow" or before.limits != rule.limits or before.hours not in ((), rule.hours):
        return False
    flags = all(
        getattr(before, flag) or not getattr(rule, flag)
        for flag in ("shell", "schedule", "manage", "stdin", "set_id", "signed_results")
    )
    lists = all(
        set(getattr(rule, field)) <= set(getattr(before, field)) or ANY in getattr(before, field)
        for field in ("who", "run", "put", "fetch", "users", "env", "cwd")
    )
    places = before.on in ("all", rule.on) and before.sources in ((), rule.sources)
    return flags and lists and places

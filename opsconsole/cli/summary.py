"""A job's end in a line: `8 targets: 7 ok, 1 exit_nonzero (web03: exit status 2)`.

Not here: printing. Rules: pure; names pass the sanitiser; states in the order in which ARCHITECTURE lists them; what is
cut says how much.
"""

from __future__ import annotations

__all__ = ("reason", "summary")

import signal
from collections.abc import Iterable, Mapping

from libstaragent.jobs.states import STATES
from libstaragent.model.api import TargetView
from opsconsole.sanitize import safe

# Reasons named for one state; with hundreds of different ones the line would be no summary.
MOST_REASONS = 3
LONGEST_NAMES = 100


def summary(counts: Mapping[str, int], targets: Iterable[TargetView]) -> str:
    """The line; `targets` are those that ended, for the reasons."""
    total = sum(counts.values())
    by_state: dict[str, dict[str, list[str]]] = {}
    for target in targets:
        if target.state != "ok":
            by_state.setdefault(target.state, {}).setdefault(reason(target), []).append(target.host)
    parts: list[str] = []
    for state in sorted((state for state in counts if counts[state]), key=_order):
        text = f"{counts[state]} {state}"
        reasons = by_state.get(state, {})
        if reasons:
            text += f" ({_reasons(reasons)})"
        parts.append(text)
    return f"{total} target{'' if total == 1 else 's'}: {', '.join(parts) or 'none'}"


def reason(target: TargetView) -> str:
    """Why a target is not ok, in a word or two; empty where its state says it all."""
    if target.state == "exit_nonzero" and target.exit_status is not None and not target.code:
        return f"exit status {target.exit_status}"
    if target.signal is not None and target.state == "signalled":
        try:
            name = signal.Signals(target.signal).name
        except ValueError:
            name = f"signal {target.signal}"
        return name + (", core dumped" if target.core_dumped else "")
    return target.code or ""


def _reasons(reasons: Mapping[str, list[str]]) -> str:
    listed = sorted(reasons.items(), key=lambda item: -len(item[1]))
    texts = [f"{_names(names)}: {why}" if why else _names(names) for why, names in listed[:MOST_REASONS]]
    left = sum(len(names) for _, names in listed[MOST_REASONS:])
    if left:
        texts.append(f"{left} more")
    return "; ".join(texts)


def _names(names: list[str]) -> str:
    if len(names) == 1:
        return safe(names[0])
    from libstaragent.targets import fold  # late: it loads ClusterShell

    text = safe(fold(names))
    return text if len(text) <= LONGEST_NAMES else f"{text[:LONGEST_NAMES]}… {len(names)} hosts"


def _order(state: str) -> int:
    return STATES.index(state) if state in STATES else len(STATES)

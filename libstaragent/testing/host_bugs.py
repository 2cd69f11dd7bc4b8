"""Planted bugs of what hosts believe of orders and files: see `bugs`, whose table they are part of."""

from __future__ import annotations

__all__ = ("HOST_BUGS",)

from collections.abc import Iterable
from typing import Any

from libstaragent.jobs.journal import Record
from libstaragent.roles.agent import AgentCore
from libstaragent.roles.agent_files import Pulls
from libstaragent.security.acts import Envelope
from libstaragent.testing.cores import Cores
from libstaragent.testing.planted import PlantedBug


class _SkipsTheRules(AgentCore):
    def __init__(self, **options: Any) -> None:
        options["verifier"].check_rules = _ask_nobody
        super().__init__(**options)


def _ask_nobody(envelope: Envelope, now_ms: int) -> None:
    return


class _Believing(Pulls):
    def checked(self, job: str, digest: bytes, errno: int | None, *, now: float) -> None:
        pull = self._pulls.get(job)
        super().checked(job, digest if pull is None else pull.act.sha256, errno, now=now)


class _BelievesDrafts(AgentCore):
    def _recover(self, journal: Iterable[Record]) -> None:
        self.pulls.__class__ = _Believing
        super()._recover(journal)


class _Suspicious(Pulls):
    def opened(self, job: str, size: int, errno: int | None, *, now: float) -> None:
        super().opened(job, size, errno, now=now)
        pull = self._pulls.get(job)
        if pull is not None:
            pull.resumed = False


class _TakesSpoiledForForged(AgentCore):
    def _recover(self, journal: Iterable[Record]) -> None:
        self.pulls.__class__ = _Suspicious
        super()._recover(journal)


HOST_BUGS: dict[str, PlantedBug] = {
    "skips-the-rules": PlantedBug(
        "the agent runs whatever an operator signed, allowed or not", Cores(agent=_SkipsTheRules), 3
    ),
    "believes-drafts": PlantedBug(
        "the agent hands a file over before its digest is the one that was signed", Cores(agent=_BelievesDrafts), 19
    ),
    "spoiled-draft-is-forged": PlantedBug(
        "a draft that lost its end with the power is taken for a forged file", Cores(agent=_TakesSpoiledForForged), 503
    ),
}

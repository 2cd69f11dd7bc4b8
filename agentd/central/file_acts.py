"""Whether a signed act that is no job yet, or will never be one, may be done: the upload of a file that a Put names,
and the read of what a host keeps of a job.

Not here: the files and the reads. Rules: judged by the same rules as a job, with the same signature; a read is of one
host, and is written to the audit before the host is asked.
"""

from __future__ import annotations

__all__ = ("FileActs",)

from collections.abc import Sequence

from agentd.central.audit import act_entry
from agentd.central.service import Central
from agentd.store.ops import InsertAudit
from libstaragent import codes
from libstaragent.roles.central import signed_members
from libstaragent.security.acts import Envelope, Member, ReadSpool, TargetList, act_name
from libstaragent.security.signed import Signed


class FileActs:
    """See the module."""

    def __init__(self, central: Central) -> None:
        self._central = central

    def permitted(self, signed: Signed, members: Sequence[Member] | None, *, source: str) -> Envelope:
        """The verified envelope, if the rules let it be done on its hosts.

        :raises StarAgentError: why not.
        """
        central = self._central
        now_ms = central.now_ms()
        envelope = central.trust.verify(signed, now_ms)
        if envelope.targets is None:
            raise codes.ACT_UNSUPPORTED.error(f"{act_name(envelope.act)} has no hosts")
        hosts, _ = signed_members(envelope.targets, members)
        central.trust.permit(envelope, central.hosts.facts_of(hosts), source=source, now_ms=now_ms)
        return envelope

    async def permit_read(self, signed: Signed, *, source: str) -> Member:
        """The host whose spool may be read.

        :raises StarAgentError: why not; JOB_UNKNOWN, HOST_UNKNOWN, HOST_UNREACHABLE among others.
        """
        central = self._central
        now_ms = central.now_ms()
        envelope = central.trust.verify(signed, now_ms)
        act, targets = envelope.act, envelope.targets
        if not isinstance(act, ReadSpool) or not isinstance(targets, TargetList) or len(targets.members) != 1:
            raise codes.ACT_UNSUPPORTED.error("a read is a ReadSpool for one host")
        member = targets.members[0]
        job = await central.recall(act.job)
        if job is None:
            raise codes.JOB_UNKNOWN.error(act.job)
        if central.hosts.members.get(member.agent) != member or member.agent not in job.members:
            raise codes.HOST_UNKNOWN.error(member.name)
        rule = central.trust.permit(
            envelope, central.hosts.facts_of((member,)), source=source, now_ms=now_ms, owner=job.operator
        ).rule
        entry = act_entry(envelope, signed, source=source, rule=rule, subject=act.job, members=(member,))
        await central.write([InsertAudit(entry, now_ms)])
        return member

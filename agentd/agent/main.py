"""The agent's wiring page: builds its parts, gives each what it needs, runs the loop. Reached only in the keeper's
child.
"""

from __future__ import annotations

__all__ = ("run",)

import random
from pathlib import Path

from agentd.agent import facts
from agentd.agent.drafts import Drafts
from agentd.agent.journal_file import JournalFile
from agentd.agent.loop import AgentLoop
from agentd.agent.renewal import Renewal
from agentd.agent.spools import KeptLimits, Spools
from agentd.agent.state import AgentState
from agentd.agent.verifier import HostVerifier
from agentd.agent.veto import SYSTEM_VETO, Vetoes
from agentd.keeper.log import say
from libstaragent.model.host import HostFacts
from libstaragent.roles.agent import AgentCore
from libstaragent.security.authority import terminal_state
from libstaragent.security.result_signature import ResultSigner
from libstaragent.version import VERSION


def run(directory: Path) -> None:
    """Be the agent of this state directory until told to stop. Raises StarAgentError or OSError where it cannot
    begin.
    """
    state = AgentState(directory)
    identity = state.identity()
    journal = JournalFile(state.journal, log=say)
    own_facts = facts.facts()
    addresses = facts.addresses(identity.room_address.rpartition(":")[0].strip("[]"))
    nonce = facts.boot_nonce()
    veto = Vetoes((SYSTEM_VETO, directory / "veto.toml"), log=say)
    verifier = HostVerifier(
        identity,
        state.roster(),
        facts=HostFacts(
            id=identity.agent, name=identity.name, room=identity.room, addresses=addresses, facts=own_facts
        ),
        boot_nonce=nonce,
        journal=journal.records,
        veto=veto,
    )
    seed = state.result_seed()
    core = AgentCore(
        agent=identity.agent,
        verifier=verifier,
        state_of=terminal_state,
        version=VERSION,
        boot_nonce=nonce,
        hostname=facts.hostname(),
        addresses=addresses,
        facts=own_facts,
        journal=journal.records,
        heads=state.heads(),
        signer=None if seed is None else ResultSigner(seed, fleet=identity.fleet, agent=identity.agent),
        boot=facts.boot_id(state.boot_id),
    )
    veto.open_jobs = lambda: len(core.open)
    journal.records = []
    drafts = Drafts(state.drafts)
    drafts.sweep(core.open)
    AgentLoop(
        core=core,
        state=state,
        identity=identity,
        journal=journal,
        renewal=Renewal(state, identity, log=say),
        spools=Spools(running=state.spool, kept=state.kept, limits=KeptLimits.from_environment()),
        drafts=drafts,
        random=random.random,
        log=say,
    ).run()

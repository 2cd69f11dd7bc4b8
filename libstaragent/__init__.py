"""libstaragent: run commands on a fleet of machines, from Python.

    import libstaragent

    async with libstaragent.Fleet.connect() as fleet:
        job = await fleet.run("web[01-03]", ["uptime"])
        print((await job.result()).counts)

The same without ``async`` is `libstaragent.sync`. The names here are loaded when they are first used, so that an agent,
which imports this package for its cores, pays for none of them.
"""

from __future__ import annotations

__all__ = (
    "Context",
    "Fleet",
    "Gap",
    "HostOutput",
    "Job",
    "JobResult",
    "OutputMerge",
    "Piece",
    "StarAgentError",
    "load_context",
    "save_context",
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from libstaragent.client.context import Context, load_context, save_context
    from libstaragent.client.fleet import Fleet
    from libstaragent.client.job import HostOutput, Job, JobResult
    from libstaragent.client.output import Gap, OutputMerge, Piece
    from libstaragent.errors import StarAgentError

_HOME = {
    "Context": "client.context",
    "Fleet": "client.fleet",
    "Gap": "client.output",
    "HostOutput": "client.job",
    "Job": "client.job",
    "JobResult": "client.job",
    "OutputMerge": "client.output",
    "Piece": "client.output",
    "StarAgentError": "errors",
    "load_context": "client.context",
    "save_context": "client.context",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'libstaragent' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"libstaragent.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

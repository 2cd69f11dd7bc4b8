"""Every way to fail: the error tree, and what a code is.

    StarAgentError
    ├── UsageError        SA-?0??  what was asked for cannot be asked
    ├── NotFound          SA-?1??  no such host, job, token, …
    ├── Conflict          SA-?2??  it exists already, or two claims meet
    ├── Denied            SA-?3??  who, where from or with what key: no
    ├── TimedOut          SA-?4??  a deadline passed
    ├── ResourceShort     SA-?5??  disk, memory, file descriptors, a limit
    ├── ProtocolError     SA-?6??  bytes, versions or order of messages
    ├── DependencyFailed  SA-?7??  the OS or a service under us, with its errno
    ├── IntegrityError    SA-?8??  a signature, digest or chain does not hold
    └── Bug               SA-?9??  ours to mend

A code is ``SA-LCNN``: L the layer (1 console and library, 2 central, 3 room, 4 channel and identity, 5 agent, 6
executor, 7 plugin, 8 policy, 9 self-care, A transfer, B stack, C release), C the class above, NN a number that never
changes its meaning. The catalogue itself is `libstaragent.codes`; nothing raises a StarAgentError except through
`Code.error`, so no failure is without a code. Exit status, signal and errno of a command are fields of its result,
never part of a code.

Rules: light (the agent and its keeper import it); no I/O; a message says what to do next.
"""

from __future__ import annotations

__all__ = (
    "Bug",
    "Code",
    "Conflict",
    "Denied",
    "DependencyFailed",
    "IntegrityError",
    "NotFound",
    "ProtocolError",
    "ResourceShort",
    "StarAgentError",
    "TimedOut",
    "UsageError",
)


class StarAgentError(Exception):
    """Any failure of opsconsole; `code` says which, `detail` what about it, `errno` the OS's number if it was the
    OS, `rule` the name of the rule that said no if it was one.
    """

    def __init__(self, code: Code, detail: str = "", *, errno: int | None = None) -> None:
        super().__init__(code, detail, errno)
        self.code = code
        self.detail = detail
        self.errno = errno
        self.rule = ""

    def __str__(self) -> str:
        text = f"{self.code.code} {self.code.sentence}"
        if self.detail:
            text += f": {self.detail}"
        return text


class UsageError(StarAgentError):
    """What was asked for cannot be asked."""


class NotFound(StarAgentError):
    """No such host, job, token or file."""


class Conflict(StarAgentError):
    """It exists already, or two claims meet."""


class Denied(StarAgentError):
    """The one who asks may not."""


class TimedOut(StarAgentError):
    """A deadline passed."""


class ResourceShort(StarAgentError):
    """Disk, memory, file descriptors or a named limit ran out."""


class ProtocolError(StarAgentError):
    """The other side sent what the protocol does not allow, or speaks another version of it."""


class DependencyFailed(StarAgentError):
    """The operating system or a service underneath said no; `errno` says how."""


class IntegrityError(StarAgentError):
    """A signature, a digest or a chain does not hold."""


class Bug(StarAgentError):
    """A fault of opsconsole itself."""


_CLASS_OF_DIGIT: dict[str, type[StarAgentError]] = {
    "0": UsageError,
    "1": NotFound,
    "2": Conflict,
    "3": Denied,
    "4": TimedOut,
    "5": ResourceShort,
    "6": ProtocolError,
    "7": DependencyFailed,
    "8": IntegrityError,
    "9": Bug,
}


class Code:
    """One entry of the catalogue.

    Attributes:
        code: ``SA-LCNN``.
        symbol: the same as a word, unique: ``token_expired``.
        sentence: what happened, as the operator reads it.
        remedy: what to do next.
        owner: who can mend it: ``operator``, ``host owner`` or ``platform``.
        scope: how far it reaches: ``target``, ``room`` or ``fleet``.
        retryable: the same request may succeed later, unchanged.
    """

    __slots__ = ("code", "owner", "remedy", "retryable", "scope", "sentence", "symbol")

    def __init__(
        self,
        code: str,
        symbol: str,
        sentence: str,
        remedy: str,
        *,
        owner: str = "operator",
        scope: str = "target",
        retryable: bool = False,
    ) -> None:
        self.code = code
        self.symbol = symbol
        self.sentence = sentence
        self.remedy = remedy
        self.owner = owner
        self.scope = scope
        self.retryable = retryable

    def __repr__(self) -> str:
        return f"<{self.code} {self.symbol}>"

    @property
    def error_class(self) -> type[StarAgentError]:
        """The class of the tree that this code raises."""
        return _CLASS_OF_DIGIT[self.code[4]]

    def error(self, detail: str = "", *, errno: int | None = None) -> StarAgentError:
        """The exception to raise for this code, with what is particular to this occurrence in `detail`."""
        return self.error_class(self, detail, errno=errno)

"""When a certificate is renewed: at two thirds of its life, spread out, because a fleet that enrolled in one hour would
return in one hour.

Not here: the renewal itself. Rules: pure (`random` is an argument); light, because the agent asks it.
"""

from __future__ import annotations

__all__ = ("renewal_time",)

from collections.abc import Callable

# A third of a seven-day certificate leaves more than two days to notice and mend a control plane that is away.
RENEW_AT = 2 / 3
# A tenth of the life: 10,000 agents enrolled in one minute renew over 16 hours, one every 6 s.
JITTER = 1 / 10


def renewal_time(not_before_ms: int, not_after_ms: int, random: Callable[[], float]) -> int:
    """When to renew, in milliseconds since the epoch; `random` gives 0 ≤ x < 1.

    :raises ValueError: the certificate ends before it begins.
    """
    life_ms = not_after_ms - not_before_ms
    if life_ms <= 0:
        raise ValueError("a certificate must end after it begins")
    return not_before_ms + int(life_ms * (RENEW_AT + JITTER * (random() - 0.5)))

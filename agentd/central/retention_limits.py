"""How much the control plane keeps: defaults, and what ``retention.toml`` in its state directory says otherwise.

Not here: who deletes (`retention`). Rules: a file that cannot be read, or has a key that there is none of, stops the
start: nothing is deleted by a misunderstanding.
"""

from __future__ import annotations

__all__ = ("RETENTION_FILE", "RetentionLimits", "read_limits")

import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from libstaragent import codes

RETENTION_FILE = "retention.toml"

_Days = Annotated[float, Meta(gt=0, le=36_500)]
_Count = Annotated[int, Meta(ge=100)]
_Bytes = Annotated[int, Meta(ge=1_000_000)]

# The smallest is the one that a line of TOML may ask for; tests make their own.


class RetentionLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept at most.

    Attributes:
        jobs_days: a job with its results so long after its end; jobs_max: and so many of them.
        outputs_days: an output so long after it was brought last, also where its job is kept; outputs_bytes: and all
            together so many bytes.
        audit_days: an entry of the audit; audit_max: and so many of them.
        store_bytes: the whole database, as pages in use; outputs go first, then jobs.
        tokens_days: an enrolment token so long after it expired.
    """

    # A month of jobs answers "who restarted this last week"; a busy fleet makes some ten thousand a day.
    jobs_days: _Days = 30.0
    jobs_max: _Count = 1_000_000
    # Output is read within days, and is what fills disks.
    outputs_days: _Days = 7.0
    outputs_bytes: _Bytes = 2 * 1024**3
    # More than a year: who looks into something looks a year back. Some 400 bytes each.
    audit_days: _Days = 400.0
    audit_max: _Count = 10_000_000
    store_bytes: _Bytes = 16 * 1024**3
    tokens_days: _Days = 30.0


def read_limits(directory: Path) -> RetentionLimits:
    """The limits for the control plane of this state directory.

    :raises UsageError: RETENTION_INVALID, the file is there and is not what it should be.
    """
    path = directory / RETENTION_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return RetentionLimits()
    except (OSError, UnicodeDecodeError) as error:
        raise codes.RETENTION_INVALID.error(f"{path}: {error}") from error
    try:
        return msgspec.convert(tomllib.loads(text), RetentionLimits)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise codes.RETENTION_INVALID.error(f"{path}: {error}") from error

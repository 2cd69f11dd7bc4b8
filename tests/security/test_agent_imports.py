"""What an agent loads for security is light."""

from __future__ import annotations

import subprocess
import sys


def test_an_agent_side_process_loads_no_heavy_module() -> None:
    modules = ["envelope", "roster", "membership", "clock", "authority", "rotation", "private_file", "tls"]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n    importlib.import_module('libstaragent.security.' + name)\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
        "print('nacl.signing' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    loaded, signing = done.stdout.splitlines()
    heavy = {"cryptography", "httpx", "asyncio", "dataclasses", "keyring", "textual", "sqlalchemy", "pydantic", "anyio"}
    assert heavy.isdisjoint(loaded.split())
    assert {"msgspec", "nacl", "ssl"} <= set(loaded.split())
    assert signing == "False"

"""Fixtures of the client's tests: a stand-in for central, and both event loops."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load(name: str) -> ModuleType:
    """A helper that stands beside this file: tests are no package to import from."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def central(short_tmp: Path) -> Iterator[Any]:
    with load("stand_in").StandIn(short_tmp) as running:
        yield running


@pytest.fixture
def stand_in() -> ModuleType:
    """The module of the stand-in, for tests that start one of their own."""
    return load("stand_in")


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that is taken and not listened on: nobody else can answer there meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]

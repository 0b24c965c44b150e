"""What the tests of the checks share."""

from __future__ import annotations

import sys

import pytest

from wengert.core.primitive import Registry


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry of its own for every test that declares operations."""
    fresh = Registry()
    for module in ("elementwise", "structured", "opaque"):
        monkeypatch.setattr(sys.modules[f"wengert.declare.{module}"], "REGISTRY", fresh)
    return fresh

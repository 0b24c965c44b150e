"""Eager code that runs on native kernels at once, whatever the size of its arrays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compile.eager_programs import forget
from wengert.compile import eager, eager_boxed, eager_derivatives, eager_sweeps
from wengert.core import native


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let every operation be done natively from its second occurrence on, whatever its size; let nothing go wrong."""
    monkeypatch.setattr(native, "_provider", native.load() if native.load else None)
    native.engage()
    monkeypatch.setattr(native, "smallest", 1)
    monkeypatch.setattr(native, "SMALLEST", 1)
    monkeypatch.setattr(native, "smallest_matrix", 1)
    monkeypatch.setattr(native, "SMALLEST_MATRIX", 1)
    monkeypatch.setattr(eager_derivatives, "_ROWS_OF", 1)
    monkeypatch.setattr(eager_boxed, "_LARGE", 0)
    monkeypatch.setattr(native, "factor", 1 << 62)
    monkeypatch.setattr(eager_sweeps, "LARGE", 1)
    monkeypatch.setattr(eager.tariff, "share", 0.0)
    monkeypatch.setattr(eager, "raising", True)
    forget()
    yield
    forget()

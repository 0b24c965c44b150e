"""What every test of a transform leaves behind: nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import wengert as wg
from wengert.core.tracing import open_traces


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    """See that no transform is at work any more, and that recording is on."""
    yield
    assert open_traces() == () and wg.is_grad_enabled()

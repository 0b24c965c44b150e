"""Addresses of arrays, whatever tells them."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from wengert.compile.addresses import address_of

READ_ONLY = np.arange(4.0)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4)),
        np.zeros(()),
        np.zeros((0, 3)),
        np.zeros(3, bool),
        np.zeros(2, np.complex64),
        np.zeros(5, np.float16),
        np.zeros(2, "datetime64[s]"),
        np.arange(12)[4:],
        READ_ONLY,
    ],
)
def test_the_address_is_that_of_the_array_interface(array: np.ndarray) -> None:
    before = sys.getrefcount(array)
    assert address_of(array) == array.__array_interface__["data"][0]
    assert sys.getrefcount(array) == before, "the buffer is held"

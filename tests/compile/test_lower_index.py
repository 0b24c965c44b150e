"""Index maps through reshapes, and layouts of views, against NumPy's own positions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from wengert.compile.graph import Equation, Value
from wengert.compile.lower_index import Affine, NeedsSplit, NotAffine, matching_groups, own_indices, reshaped, split
from wengert.compile.lower_layout import Layouts, reshaped_strides
from wengert.core.primitive import REGISTRY

SHAPES = [(4, 6), (24,), (2, 2, 6), (4, 3, 2), (1, 24), (4, 1, 6), (2, 12), (8, 3), (2, 2, 2, 3), (24, 1, 1)]


def value_at(index: Affine, loops: tuple[int, ...]) -> int:
    return index.offset + sum([c * loops[axis] for axis, c in index.terms])


@pytest.mark.parametrize(("shape", "source"), list(itertools.product(SHAPES, SHAPES)))
def test_reshaped_map_leads_to_the_same_elements(shape: tuple[int, ...], source: tuple[int, ...]) -> None:
    try:
        index = reshaped(own_indices(shape), shape, source, shape)
    except NeedsSplit as need:
        assert shape[need.axis] % need.inner == 0
        return
    except NotAffine:
        return
    places = np.arange(24).reshape(source)
    want = places.reshape(shape)
    for loops in np.ndindex(*shape):
        assert places[tuple([value_at(entry, loops) for entry in index])] == want[loops]


def test_merging_axes_is_always_affine() -> None:
    for shape, source in [((4, 6), (24,)), ((2, 2, 6), (4, 6)), ((4, 3, 2), (4, 6)), ((4, 1, 6), (24,))]:
        reshaped(own_indices(shape), shape, source, shape)


def test_dividing_a_loop_is_asked_for() -> None:
    with pytest.raises(NeedsSplit) as caught:
        reshaped(own_indices((24,)), (24,), (4, 6), (24,))
    assert (caught.value.axis, caught.value.inner) == (0, 6)


def test_split_of_reversed_index() -> None:
    quotient, remainder = split(Affine(5, ((0, 6), (1, -1))), 6, (4, 6))
    assert (quotient, remainder) == (Affine(0, ((0, 1),)), Affine(5, ((1, -1),)))


def test_groups_hold_as_many_elements() -> None:
    for shape, source in itertools.product(SHAPES, SHAPES):
        groups = matching_groups(shape, source)
        assert [i for ours, _ in groups for i in ours] == list(range(len(shape)))
        assert [i for _, theirs in groups for i in theirs] == list(range(len(source)))
        for ours, theirs in groups:
            assert np.prod([shape[i] for i in ours]) == np.prod([source[i] for i in theirs])


@pytest.mark.parametrize("target", SHAPES)
def test_strides_of_reshapes_are_those_of_numpy(target: tuple[int, ...]) -> None:
    whole = np.arange(48).reshape(4, 12)
    for array in (whole[:, :6], whole[:, ::2], whole.reshape(4, 3, 4).transpose(1, 0, 2)[:2, :3], whole[:2]):
        if array.size != 24:
            continue
        strides = tuple([s // array.itemsize for s in array.strides])
        got = reshaped_strides(array.shape, strides, target)
        moved = array.reshape(target)
        shares = np.shares_memory(moved, whole)
        assert (got is not None) == shares
        if got is not None:
            want = [s // array.itemsize for s, n in zip(moved.strides, target) if n > 1]
            assert [s for s, n in zip(got, target) if n > 1] == want


def test_views_share_the_memory_of_what_they_view() -> None:
    x = Value((4, 6), np.dtype(np.float32))
    views = [
        ("permute", {"axes": (1, 0)}, (6, 4)),
        ("index", {"key": (slice(1, None, 2), None, slice(None, None, -1))}, (3, 1, 4)),
        ("reverse", {"axis": (0,)}, (3, 1, 4)),
        ("stretch", {"shape": (3, 5, 4)}, (3, 5, 4)),
    ]
    array, value, maker = np.arange(24, dtype=np.float32).reshape(4, 6), x, {}
    expected = array
    for name, params, shape in views:
        out = Value(shape, x.dtype)
        maker[out] = Equation(REGISTRY[name], (value,), params, (out,))
        expected = REGISTRY[name].impl(np, expected, **params)
        value = out
    layout = Layouts(maker, lambda v: v is x).of(value)
    assert layout is not None
    assert layout.base is x
    strides = [4 * stride for stride in layout.strides]
    seen = np.lib.stride_tricks.as_strided(array.reshape(-1)[layout.offset :], value.shape, strides)
    np.testing.assert_array_equal(seen, expected)

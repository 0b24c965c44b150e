"""Reading by index: basic keys give views, keys with arrays give copies; and what a write is on the tape.

The gradient of reading or writing a slice costs as much as the slice: the raw sweep adds and clears regions in buffers
of its own.
"""

# Raw arrays are Any, and NumPy's stubs make Unknown of what is computed from Any.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false

from __future__ import annotations

import builtins
import operator
from math import prod
from typing import Any

import numpy as np

from ..core import boxing, capturing, step_numbers
from ..core.aliasing import Steps, View, alias_of, editable_region, family, region_of
from ..core.dispatch import bind
from ..core.vspace import Accumulator, Scatter
from ..declare import Sample, linear
from ..typing import Array, Namespace, Shape
from . import mapped_keys

Key = tuple[Any, ...]
_ALL = builtins.slice(None)
_SMALL = 1 << 12


def canonical_key(key: Any, shape: Shape) -> tuple[Key, bool]:
    """Return (key as a tuple of raw parts, whether it is basic): booleans become positions, Tensors arrays.

    Raises:
        IndexError: a part is no index, or a boolean mask has another shape than what it masks.
    """
    parts: list[Any] = []
    basic = True
    axis = 0
    for part in key if isinstance(key, tuple) else (key,):
        raw = _raw_part(part)
        if isinstance(raw, np.ndarray):
            basic = False
            if raw.dtype == np.bool_:
                _check_mask(raw, shape, axis)
                parts.extend(raw.nonzero() if raw.ndim else _zero_dim_mask(raw))
                axis += raw.ndim
                continue
        elif raw is Ellipsis:
            remaining = [p for p in (key if isinstance(key, tuple) else (key,))]
            axis = len(shape) - _axes_after_ellipsis(remaining)
            parts.append(raw)
            continue
        parts.append(raw)
        axis += raw is not None
    return tuple(parts), basic


def _axes_after_ellipsis(parts: list[Any]) -> int:
    after = parts[[p is Ellipsis for p in parts].index(True) + 1 :]
    return builtins.sum(
        getattr(p, "ndim", 1) if getattr(p, "dtype", None) == np.bool_ else int(p is not None) for p in after
    )


def _check_mask(mask: np.ndarray, shape: Shape, axis: int) -> None:
    if tuple(shape[axis : axis + mask.ndim]) != mask.shape:
        raise IndexError(f"a boolean mask of shape {mask.shape} does not fit the axes from {axis} on of shape {shape}")


def _zero_dim_mask(mask: np.ndarray) -> list[Any]:
    return [None, np.zeros(int(mask), np.intp)]


def _raw_part(part: Any) -> Any:
    kind = type(part)
    if kind is int or part is None or part is Ellipsis:
        return part
    if kind is builtins.slice:
        return builtins.slice(_bound(part.start), _bound(part.stop), _bound(part.step))
    if isinstance(part, boxing.Tensor):
        part = part.detach().numpy()
    if isinstance(part, (list, np.ndarray, bool, np.bool_)):
        array = np.asarray(part)
        if array.size == 0 and array.dtype == np.float64:
            array = array.astype(np.intp)
        if array.dtype.kind not in "biu":
            raise IndexError(f"an index array must hold integers or booleans, not {array.dtype}")
        if array.dtype == np.bool_:
            return array
        # The tape keeps what it is given: a copy, which nobody else can write to.
        return np.array(array) if array.ndim else int(array)
    try:
        return operator.index(part)
    except TypeError:
        raise IndexError(
            f"{part!r} is not an index: integers, slices, Ellipsis, None and arrays of integers or booleans are"
        ) from None


def _bound(value: Any) -> int | None:
    return None if value is None else operator.index(value.item() if isinstance(value, boxing.Tensor) else value)


@linear(
    samples=[
        Sample((5,), key=(builtins.slice(1, 4),)),
        Sample((4, 3), key=(builtins.slice(None, None, -2), 1)),
        Sample((4, 3), key=(None, Ellipsis, 0)),
        Sample((3,), key=(2,)),
    ],
    view=True,
    masks=True,
)
def index(xp: Namespace, x: Array, *, key: Key) -> Array:
    """A region read by integers, slices, Ellipsis and None: a view, or a number if every axis is indexed."""
    return x[key]


@index.transpose
def index_transpose(xp: Namespace, out_bar: Array, x_shape: Shape, key: Key) -> Array:
    return xp.embed(out_bar, shape=x_shape, key=key)


@index.raw_pull
def index_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    key = node.params["key"]
    parent = node.inputs[0]

    def add_into(buffer: np.ndarray) -> None:
        buffer[key] += out_bar

    return (Scatter(parent.shape, parent.dtype, add_into),)


@index.pull_in_place
def index_pull_in_place(node: Any, out_bar: Any) -> tuple[Any, ...]:
    key = node.params["key"]
    parent = node.inputs[0]
    if prod(parent.shape) <= _SMALL:  # a sum of small arrays takes less time than the bookkeeping of a write
        return (bind(embed.primitive, (out_bar,), {"shape": parent.shape, "key": key}),)

    def add_into(buffer: Any) -> None:
        buffer[key] += out_bar

    return (Scatter(parent.shape, parent.dtype, add_into, tracked=True),)


@index.batched
def index_batched(xp: Namespace, x: Array, *, key: Key) -> Array:
    return bind(index.primitive, (x,), {"key": (_ALL, *key)})


@linear(
    samples=[
        Sample((3,), shape=(5,), key=(builtins.slice(1, 4),)),
        Sample((2,), shape=(4, 3), key=(builtins.slice(None, None, -2), 1)),
        Sample((1, 4), shape=(4, 3), key=(None, Ellipsis, 0)),
        Sample((), shape=(3,), key=(2,)),
    ]
)
def embed(xp: Namespace, x: Array, *, shape: Shape, key: Key) -> Array:
    """Zeros of a shape with `x` in the region that a basic key selects: what reading that region pulls back to."""
    return xp.embed(x, shape=shape, key=key)


@embed.transpose
def embed_transpose(xp: Namespace, out_bar: Array, key: Key) -> Array:
    return xp.index(out_bar, key=key)


@embed.batched
def embed_batched(xp: Namespace, x: Array, *, shape: Shape, key: Key) -> Array:
    return bind(embed.primitive, (x,), {"shape": (x.shape[0], *shape), "key": (_ALL, *key)})


@linear(
    samples=[
        Sample((4, 3), key=(np.array([2, 0, 2]),)),
        Sample((4, 3), key=(np.array([[0, 1], [3, 3]]), np.array([1, 0]))),
        Sample((3, 2, 4), key=(_ALL, np.array([1, 0]), builtins.slice(1, None, 2))),
    ],
    masks=True,
)
def gather(xp: Namespace, x: Array, *, key: Key) -> Array:
    """Elements read by arrays of positions, as a copy; positions may repeat."""
    return x[key]


@gather.transpose
def gather_transpose(xp: Namespace, out_bar: Array, x_shape: Shape, x_dtype: Any, key: Key) -> Array:
    return xp.scatter_add(xp.zeros(x_shape, dtype=x_dtype), out_bar, key=key)


@gather.raw_pull
def gather_raw_pull(node: Any, out_bar: Array) -> tuple[Any, ...]:
    key = node.params["key"]
    parent = node.inputs[0]

    def add_into(buffer: np.ndarray) -> None:
        np.add.at(buffer, key, out_bar)

    return (Scatter(parent.shape, parent.dtype, add_into),)


@gather.batched
def gather_batched(xp: Namespace, x: Array, *, key: Key) -> Array:
    if _arrays_are_apart(key):
        rows, positions = _flat(xp, x, (), key)
        return bind(gather.primitive, (rows,), {"key": (_ALL, positions)})
    return bind(gather.primitive, (x,), {"key": (_ALL, *key)})


def _flat(xp: Namespace, x: Any, steps: Steps, key: Key) -> tuple[Any, Any]:
    """Return a batch of arrays as rows, and the positions in a row that view steps and a key lead to.

    NumPy puts the axes of index arrays that are apart in front, and a step of a view may be one that permutes axes: in
    both cases one more axis in front of the key would mean something else.
    """
    shape = tuple(x.shape[1:])
    positions = np.asarray(region_of(np.arange(prod(shape)).reshape(shape), steps)[key])
    return xp.reshape(x, (x.shape[0], prod(shape))), positions


def _arrays_are_apart(key: Key) -> bool:
    flags = [isinstance(p, np.ndarray) or type(p) is int for p in key]
    if not any(isinstance(p, np.ndarray) for p in key):
        return False
    first, last = flags.index(True), len(flags) - 1 - flags[::-1].index(True)
    return not all(flags[first : last + 1])


@linear(
    samples=[
        Sample((4, 3), (3, 3), key=(np.array([2, 0, 2]),)),
        Sample((4,), (2,), key=(np.array([1, 1]),)),
        Sample((4, 3), (), key=(np.array([0, 3]), 1)),
    ]
)
def scatter_add(xp: Namespace, x: Array, value: Array, *, key: Key) -> Array:
    """A copy of `x` with `value` added at the positions of a key; repeated positions add up."""
    return xp.scatter_add(x, value, key=key)


@scatter_add.transpose_of("x")
def scatter_add_transpose_x(out_bar: Array) -> Array:
    return out_bar


@scatter_add.transpose_of("value")
def scatter_add_transpose_value(xp: Namespace, out_bar: Array, value_shape: Shape, key: Key) -> Array:
    return _undo_assignment_broadcast(xp, xp.gather(out_bar, key=key), value_shape)


@scatter_add.batched
def scatter_add_batched(xp: Namespace, x: Array, value: Array, *, key: Key) -> Array:
    if _arrays_are_apart(key):
        rows, positions = _flat(xp, x, (), key)
        values = _stretched(xp, value, positions.shape)
        return xp.reshape(bind(scatter_add.primitive, (rows, values), {"key": (_ALL, positions)}), x.shape)
    return bind(scatter_add.primitive, (x, _room_for(x.shape[1:], key, value)), {"key": (_ALL, *key)})


def _stretched(xp: Namespace, value: Any, shape: Shape) -> Any:
    """Broadcast each of a batch of values to the shape of a region."""
    extra = len(shape) - (value.ndim - 1)
    if extra < 0:  # NumPy ignores leading ones of a value
        value = xp.reshape(value, (value.shape[0], *value.shape[1 - extra :]))
    room = xp.reshape(value, (value.shape[0],) + (1,) * builtins.max(extra, 0) + tuple(value.shape[1:]))
    return xp.broadcast_to(room, (value.shape[0], *shape))


def _room_for(x_shape: Shape, key: Key, value: Any) -> Any:
    """Give a batched value the rank of the region it is assigned to."""
    region_ndim = np.ndim(np.broadcast_to(np.zeros(()), x_shape)[key])
    shape = tuple(value.shape)
    extra = region_ndim - (len(shape) - 1)
    return boxing.operations.reshape(value, (shape[0],) + (1,) * extra + shape[1:]) if extra > 0 else value


def _undo_assignment_broadcast(xp: Namespace, bar: Any, shape: Shape) -> Any:
    """Sum a region's cotangent to the shape of the value that was assigned to it."""
    core = shape
    while len(core) > bar.ndim and core[0] == 1:
        core = core[1:]
    lead = bar.ndim - len(core)
    stretched = [i + lead for i, n in enumerate(core) if n == 1 and bar.shape[i + lead] != 1]
    if lead or stretched:
        bar = xp.sum(bar, axis=(*builtins.range(lead), *stretched))
    return xp.reshape(bar, shape)


def _settle_written(xp: Namespace, bar: Any, node: Any) -> Any:
    """Bring a region's cotangent to the shape and dtype of the value that was assigned to it."""
    bar = _undo_assignment_broadcast(xp, bar, node.shape)
    return bar if bar.dtype == node.dtype else xp.astype(bar, node.dtype)


@linear(
    samples=[
        Sample((5,), (3,), steps=(), key=(builtins.slice(1, 4),)),
        Sample((4, 3), (1, 3), steps=(), key=(np.array([2, 0]),)),
        Sample((4, 3), (), steps=(), key=(0, Ellipsis)),
        Sample((4,), (3,), steps=(), key=(np.array([1, 1, 2]),)),
    ],
    masks=True,
)
def write_region(xp: Namespace, x: Array, value: Array, *, steps: Steps, key: Key) -> Array:
    """A copy of `x` with `value` written to the region that view steps and a key lead to; the last write wins."""
    return xp.write_region(x, value, steps=steps, key=key)


@write_region.transpose_of("x")
def write_region_transpose_x(xp: Namespace, out_bar: Array, steps: Steps, key: Key) -> Array:
    return xp.write_region(out_bar, 0.0, steps=steps, key=key)


@write_region.transpose_of("value")
def write_region_transpose_value(
    xp: Namespace, out_bar: Array, x_shape: Shape, value_shape: Shape, steps: Steps, key: Key
) -> Array:
    region = xp.read_region(out_bar, steps=steps, key=key)
    winners = _winners(x_shape, steps, key)
    return _undo_assignment_broadcast(xp, region if winners is None else region * winners, value_shape)


def _winners(shape: Shape, steps: Steps, key: Key) -> np.ndarray | None:
    """Return which entries of a written region survived (None: all): a position written twice keeps its last value."""
    if not any(isinstance(part, np.ndarray) for part in key):
        return None
    target = np.zeros(shape, np.intp)
    region = region_of(target, steps)
    order = np.arange(1, region[key].size + 1).reshape(region[key].shape)
    region[key] = order
    kept = region[key] == order
    return None if kept.all() else kept


@write_region.raw_pull
def write_region_raw_pull(node: Any, out_bar: Any) -> tuple[Any, ...]:
    steps, key = node.params["steps"], node.params["key"]
    x_node, value_node = node.inputs
    if type(out_bar) is not Accumulator:
        out_bar = Accumulator.of_copy(out_bar)
    region, region_key = editable_region(out_bar.dense, steps, key)
    value_bar = None
    if value_node is not None:
        value_bar = np.array(region[region_key])
        winners = _winners(node.shape, steps, key)
        value_bar = _settle_written(np, value_bar if winners is None else value_bar * winners, value_node)
    region[region_key] = 0
    return (out_bar if x_node is not None else None, value_bar)


write_region.primitive.takes_accumulators = True


@write_region.pull_in_place
def write_region_pull_in_place(node: Any, out_bar: Any) -> tuple[Any, ...]:
    steps, key = node.params["steps"], node.params["key"]
    x_node, value_node = node.inputs
    if type(out_bar) is not Accumulator:
        out_bar = Accumulator.of_copy(out_bar)
    xp, value_bar = boxing.operations, None
    if value_node is not None:
        value_bar = xp.clone(read_region(out_bar.dense, steps=steps, key=key))
        winners = _winners(node.shape, steps, key)
        value_bar = _settle_written(xp, value_bar if winners is None else value_bar * winners, value_node)
    if x_node is None:
        return (None, value_bar)
    region = out_bar.dense
    for primitive, params in steps:
        region = bind(primitive, (region,), params)
    if family(region)[0] is out_bar.dense:
        region[key] = 0.0
    else:  # in another layout a reshape is a copy
        out_bar.dense = write_region(out_bar.dense, 0.0, steps=steps, key=key)
    return (out_bar, value_bar)


@write_region.batched
def write_region_batched(xp: Namespace, x: Array, value: Array, *, steps: Steps, key: Key) -> Array:
    params: dict[str, Any] = {"steps": ()}
    if steps or _arrays_are_apart(key):
        rows, positions = _flat(xp, x, steps, key)
        values = xp.reshape(_stretched(xp, value, positions.shape), (x.shape[0], positions.size))
        params["key"] = (_ALL, positions.reshape(-1))
        return xp.reshape(bind(write_region.primitive, (rows, values), params), x.shape)
    params["key"] = (_ALL, *key)
    return bind(write_region.primitive, (x, _room_for(x.shape[1:], key, value)), params)


def read_region(x: Any, *, steps: Steps, key: Key) -> Any:
    """Follow view steps, then read by a canonical key."""
    for primitive, params in steps:
        x = bind(primitive, (x,), params)
    basic = not any(isinstance(part, np.ndarray) for part in key)
    return bind(index.primitive if basic else gather.primitive, (x,), {"key": key})


def getitem(x: Any, key: Any) -> Any:
    """Read `x[key]`: a view for basic keys, a copy for keys with arrays, as in NumPy.

    Raises:
        IndexError: a part of the key is out of range or no index.
    """
    kind = type(key)
    if kind is int or (kind is builtins.slice and _has_plain_bounds(key)):
        return bind(index.primitive, (x,), {"key": (key,)})
    if capturing.engaged and step_numbers.is_in(key):
        return step_numbers.read(x, key)
    if mapped_keys.holds_mapped(key):
        return mapped_keys.read(x, key)
    canonical, basic = canonical_key(key, x.shape)
    if not basic:
        return bind(gather.primitive, (x,), {"key": canonical})
    part = bind(index.primitive, (x,), {"key": canonical})
    return part.clone() if _holds_position(key) and type(alias_of(part)) is View else part


def _holds_position(key: Any) -> bool:
    """Return whether a key holds an array without axes: an array, as NumPy sees it, though it is read as a number."""
    for part in key if type(key) is tuple else (key,):
        if isinstance(part, (boxing.Tensor, np.ndarray)):
            return True
    return False


def is_plain_key(key: Any) -> bool:
    """Return whether a key is canonical as it is."""
    kind = type(key)
    return kind is int or (kind is builtins.slice and _has_plain_bounds(key))


_PLAIN_BOUND = (int, type(None))


def _has_plain_bounds(key: builtins.slice) -> bool:
    return type(key.start) in _PLAIN_BOUND and type(key.stop) in _PLAIN_BOUND and type(key.step) in _PLAIN_BOUND

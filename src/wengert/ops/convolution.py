"""Convolution over any number of axes: one operation, bilinear, and its two transposes, each bilinear again.

The three are each other's transposes, so that any order of derivative, in any mode, needs no fourth. All take images of
shape (count, channels, *extents) and kernels of shape (outputs, channels of a group, *extents); static parameters are
tuples with an entry for each of the extents. As everywhere in machine learning, kernels are not reversed.
"""

from __future__ import annotations

from typing import Any

from ..core.chains import Link, bind_chain
from ..declare import Sample, bilinear, composite
from ..declare.batching import to_front
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace, Shape
from .arithmetic import add
from .creation import asarray
from .windows import Widths, batch_of_images, demand_numbers, demand_places, geometry_of, without_count

__all__ = ["conv1d", "conv2d", "conv3d"]

_PLAIN: Any = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
_UNEVEN: Any = {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 1}
_GROUPED: Any = {"stride": (1,), "padding": ((1, 1),), "dilation": (1,), "groups": 2}


@bilinear(
    samples=[
        Sample((2, 2, 4, 3), (3, 2, 2, 2), **_PLAIN),
        Sample((1, 2, 4, 3), (2, 2, 2, 2), **_UNEVEN),
        Sample((2, 4, 3), (2, 2, 2), **_GROUPED),
    ]
)
def convolve(
    xp: Namespace, x: Array, weight: Array, *, stride: Shape, padding: Widths, dilation: Shape, groups: int
) -> Array:
    """Sums of products of kernels with what lies under them, at every place that they are put to."""
    return xp.convolve(x, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)


@convolve.transpose_of("x")
def convolve_pull_x(
    xp: Namespace,
    out_bar: Array,
    x_shape: Shape,
    weight: Array,
    stride: Shape,
    padding: Widths,
    dilation: Shape,
    groups: int,
) -> Array:
    return xp.convolve_transpose_x(
        out_bar, weight, extents=x_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@convolve.transpose_of("weight")
def convolve_pull_weight(
    xp: Namespace,
    out_bar: Array,
    x: Array,
    weight_shape: Shape,
    stride: Shape,
    padding: Widths,
    dilation: Shape,
    groups: int,
) -> Array:
    return xp.convolve_transpose_weight(
        out_bar, x, kernel=weight_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@bilinear(
    samples=[
        Sample((2, 3, 3, 2), (3, 2, 2, 2), extents=(4, 3), **_PLAIN),
        Sample((1, 2, 2, 3), (2, 2, 2, 2), extents=(4, 3), **_UNEVEN),
        Sample((2, 2, 4), (2, 2, 2), extents=(3,), **_GROUPED),
    ]
)
def convolve_transpose_x(
    xp: Namespace,
    y: Array,
    weight: Array,
    *,
    extents: Shape,
    stride: Shape,
    padding: Widths,
    dilation: Shape,
    groups: int,
) -> Array:
    """Elements spread through kernels into images of given extents: what convolution pulls back to its images."""
    return xp.convolve_transpose_x(
        y, weight, extents=extents, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@convolve_transpose_x.transpose_of("y")
def convolve_transpose_x_pull_y(
    xp: Namespace, out_bar: Array, weight: Array, stride: Shape, padding: Widths, dilation: Shape, groups: int
) -> Array:
    return xp.convolve(out_bar, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)


@convolve_transpose_x.transpose_of("weight")
def convolve_transpose_x_pull_weight(
    xp: Namespace,
    out_bar: Array,
    y: Array,
    weight_shape: Shape,
    stride: Shape,
    padding: Widths,
    dilation: Shape,
    groups: int,
) -> Array:
    return xp.convolve_transpose_weight(
        y, out_bar, kernel=weight_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@bilinear(
    samples=[
        Sample((2, 3, 3, 2), (2, 2, 4, 3), kernel=(2, 2), **_PLAIN),
        Sample((1, 2, 2, 3), (1, 2, 4, 3), kernel=(2, 2), **_UNEVEN),
        Sample((2, 2, 4), (2, 4, 3), kernel=(2,), **_GROUPED),
    ]
)
def convolve_transpose_weight(
    xp: Namespace,
    y: Array,
    x: Array,
    *,
    kernel: Shape,
    stride: Shape,
    padding: Widths,
    dilation: Shape,
    groups: int,
) -> Array:
    """Sums of products over all places, for each entry of the kernels: what convolution pulls back to them."""
    return xp.convolve_transpose_weight(
        y, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@convolve_transpose_weight.transpose_of("y")
def convolve_transpose_weight_pull_y(
    xp: Namespace, out_bar: Array, x: Array, stride: Shape, padding: Widths, dilation: Shape, groups: int
) -> Array:
    return xp.convolve(x, out_bar, stride=stride, padding=padding, dilation=dilation, groups=groups)


@convolve_transpose_weight.transpose_of("x")
def convolve_transpose_weight_pull_x(
    xp: Namespace,
    out_bar: Array,
    y: Array,
    x_shape: Shape,
    stride: Shape,
    padding: Widths,
    dilation: Shape,
    groups: int,
) -> Array:
    return xp.convolve_transpose_x(
        y, out_bar, extents=x_shape[2:], stride=stride, padding=padding, dilation=dilation, groups=groups
    )


# Batching. A mapped axis of the images is one more factor of their count; a mapped axis of the kernels, of their
# outputs; and one of both, of the groups. Within each group, channels that are mapped stand next to each other.


def _merged(xp: Namespace, value: Any, axis: int) -> Any:
    """Move the mapped axis in front of another one, and make one axis of both."""
    return _join(xp, xp.moveaxis(value, 0, axis), axis)


def _join(xp: Namespace, value: Any, axis: int) -> Any:
    shape = value.shape
    return xp.reshape(value, (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :]))


def _split(xp: Namespace, value: Any, axis: int, *extents: int) -> Any:
    rest = value.shape[axis]
    for n in extents:
        rest = rest // n if n else 0
    return xp.reshape(value, (*value.shape[:axis], *extents, rest, *value.shape[axis + 1 :]))


def _grouped(xp: Namespace, value: Any, axis: int, groups: int) -> Any:
    """Merge the mapped axis into the channels at `axis`, within each group."""
    apart = _split(xp, value, axis + 1, groups)
    return _join(xp, _join(xp, xp.moveaxis(apart, 0, axis + 1), axis + 1), axis)


def _ungrouped(xp: Namespace, value: Any, axis: int, groups: int, size: int) -> Any:
    """Undo `_grouped`: take the mapped axis out of the channels at `axis`, and put it in front."""
    apart = xp.moveaxis(_split(xp, value, axis, groups, size), axis + 1, 0)
    return _join(xp, apart, axis + 1)


@convolve.batch
def convolve_batch(
    xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...], groups: int, **moves: Any
) -> tuple[Any, int]:
    x, weight = (to_front(xp, value, axis) for value, axis in zip(args, axes))
    if axes[1] is None:
        out = convolve(_join(xp, x, 0), weight, groups=groups, **moves)
        return _split(xp, out, 0, x.shape[0]), 0
    size = weight.shape[0]
    if axes[0] is None:
        out = convolve(x, _grouped(xp, weight, 0, groups), groups=groups, **moves)
        return _ungrouped(xp, out, 1, groups, size), 0
    out = convolve(_merged(xp, x, 1), _join(xp, weight, 0), groups=groups * size, **moves)
    return xp.moveaxis(_split(xp, out, 1, size), 1, 0), 0


@convolve_transpose_x.batch
def convolve_transpose_x_batch(
    xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...], groups: int, **moves: Any
) -> tuple[Any, int]:
    y, weight = (to_front(xp, value, axis) for value, axis in zip(args, axes))
    if axes[1] is None:
        out = convolve_transpose_x(_join(xp, y, 0), weight, groups=groups, **moves)
        return _split(xp, out, 0, y.shape[0]), 0
    size = weight.shape[0]
    if axes[0] is None:
        out = convolve_transpose_x(y, _merged(xp, weight, 1), groups=groups, **moves)
        return _ungrouped(xp, out, 1, groups, size), 0
    out = convolve_transpose_x(_merged(xp, y, 1), _join(xp, weight, 0), groups=groups * size, **moves)
    return xp.moveaxis(_split(xp, out, 1, size), 1, 0), 0


@convolve_transpose_weight.batch
def convolve_transpose_weight_batch(
    xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...], groups: int, **moves: Any
) -> tuple[Any, int]:
    y, x = (to_front(xp, value, axis) for value, axis in zip(args, axes))
    if axes[1] is None:
        out = convolve_transpose_weight(_grouped(xp, y, 1, groups), x, groups=groups, **moves)
        return _ungrouped(xp, out, 0, groups, y.shape[0]), 0
    size = x.shape[0]
    if axes[0] is None:
        out = convolve_transpose_weight(y, _grouped(xp, x, 1, groups), groups=groups, **moves)
        return xp.moveaxis(_split(xp, out, 1, size), 1, 0), 0
    out = convolve_transpose_weight(_merged(xp, y, 1), _merged(xp, x, 1), groups=groups * size, **moves)
    return _split(xp, out, 0, size), 0


# What users call.


def _convolution(
    x: ArrayLike, weight: ArrayLike, bias: Any, rank: int, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    images, single = batch_of_images(demand_numbers(asarray(x), f"conv{rank}d"), rank, f"conv{rank}d")
    links = convolution_links(images, weight, bias, rank, stride, padding, dilation, groups)
    return without_count(bind_chain(images, links), single)


def convolution_links(
    images: Any, weight: ArrayLike, bias: Any, rank: int, stride: Any, padding: Any, dilation: Any, groups: int
) -> list[Link]:
    """Return the operations of a convolution of images, of which only shape and dtype are looked at.

    Raises:
        ShapeError: they do not fit.
        DTypeError: they are no numbers.
    """
    name = f"conv{rank}d"
    kernels = demand_numbers(asarray(weight), name)
    if kernels.ndim != rank + 2 or 0 in kernels.shape[2:]:
        raise ShapeError(
            f"{name}: the weight has shape {kernels.shape}; it must have {rank + 2} axes: (outputs, channels of a "
            f"group, then {rank} of at least one element)"
        )
    _demand_channels(images, kernels, groups, name)
    geometry = geometry_of(kernels.shape[2:], stride, padding, dilation, name)
    demand_places(images.shape[2:], geometry, name)
    links = [Link(convolve.primitive, (kernels,), {**geometry.moves(), "groups": groups})]
    if bias is not None:
        shift = asarray(bias)
        if shift.shape != kernels.shape[:1]:
            raise ShapeError(
                f"{name}: the bias has shape {shift.shape}; for a weight of shape {kernels.shape} it must be "
                f"({kernels.shape[0]},)"
            )
        links.append(Link(add.primitive, (shift,), shapes=((kernels.shape[0], *(1,) * rank),)))
    return links


def _demand_channels(images: Any, kernels: Any, groups: Any, name: str) -> None:
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ShapeError(f"{name}: groups is a positive integer, not {groups!r}")
    channels, outputs = images.shape[1], kernels.shape[0]
    if channels % groups or outputs % groups:
        raise ShapeError(
            f"{name}: {groups} groups divide neither more nor less than all channels: x has {channels} of them, and "
            f"the weight of shape {kernels.shape} makes {outputs}"
        )
    if channels // groups != kernels.shape[1]:
        raise ShapeError(
            f"{name}: x has shape {images.shape}, so {channels} channels in {groups} groups, and the weight has shape "
            f"{kernels.shape}, for {kernels.shape[1]} channels in each group; it must have {channels // groups} there"
        )


@composite(
    samples=[
        Sample((2, 3, 5), (4, 3, 2), (4,), stride=2, padding=1),
        Sample((3, 5), (4, 3, 3), padding="same"),
        Sample((2, 4, 5), (4, 2, 2), (4,), dilation=2, groups=2),
    ]
)
def conv1d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolve sequences with kernels.

    Args:
        x: array of shape (count, channels, length), or (channels, length).
        weight: kernels, of shape (outputs, channels / groups, length).
        bias: a number for each output, added to the result.
        stride: steps between the places that the kernels are put to.
        padding: zeros at both ends: a number, a pair in a sequence of one, "valid" for none, or "same" for as many
            as keep the length (with a stride of 1; an odd one more at the end).
        dilation: steps between the elements that a kernel meets.
        groups: into how many groups of their own channels and outputs are divided.

    Raises:
        ShapeError: they do not fit.

    >>> import wengert as wg
    >>> wg.conv1d(wg.tensor([[1.0, 2.0, 4.0]]), wg.tensor([[[-1.0, 1.0]]])).tolist()
    [[1.0, 2.0]]
    """
    return _convolution(x, weight, bias, 1, stride, padding, dilation, groups)


@composite(
    samples=[
        Sample((2, 3, 4, 3), (4, 3, 2, 2), (4,), padding=1),
        Sample((1, 2, 5, 5), (2, 1, 3, 2), padding="same", dilation=(1, 2), groups=2),
        Sample((2, 5, 4), (3, 2, 2, 3), (3,), stride=(2, 1), padding=((0, 1), (1, 2))),
    ]
)
def conv2d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolve images with kernels.

    Args:
        x: array of shape (count, channels, height, width), or (channels, height, width).
        weight: kernels, of shape (outputs, channels / groups, height, width).
        bias: a number for each output, added to the result.
        stride: steps between the places that the kernels are put to; a number, or one for each axis.
        padding: zeros around the images: a number, or a number or a pair for each axis, "valid" for none, or "same" for
            as many as keep the extents (with a stride of 1; an odd one more behind).
        dilation: steps between the elements that a kernel meets; a number, or one for each axis.
        groups: into how many groups of their own channels and outputs are divided.

    Raises:
        ShapeError: they do not fit.

    >>> import wengert as wg
    >>> wg.conv2d(wg.ones((1, 1, 3, 3)), wg.ones((1, 1, 3, 3)), padding="same")[0, 0].tolist()
    [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    return _convolution(x, weight, bias, 2, stride, padding, dilation, groups)


@composite(samples=[Sample((1, 2, 3, 2, 3), (2, 2, 2, 2, 2), (2,), padding=((0, 1), (0, 0), (1, 0)))])
def conv3d(
    x: ArrayLike,
    weight: ArrayLike,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolve volumes, of shape (count, channels, depth, height, width), with kernels; as `conv2d`.

    Raises:
        ShapeError: they do not fit.

    >>> import wengert as wg
    >>> wg.conv3d(wg.ones((1, 2, 3, 3, 3)), wg.ones((1, 2, 2, 2, 2))).shape
    (1, 1, 2, 2, 2)
    """
    return _convolution(x, weight, bias, 3, stride, padding, dilation, groups)

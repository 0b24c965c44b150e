"""Functions in turn: what layers one after the other are, with nobody to see what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple

from ..core import boxing
from ..core.chains import Form, Link, bind_chain, bind_form, is_large
from ..core.primitive import ELEMENTWISE
from ..typing import ArrayLike, DType, Shape
from .affine import linear, linear_links
from .convolution import conv1d, conv2d, convolution_links
from .max_pooling import max_pool1d, max_pool2d, max_pool3d, max_pool_links
from .shaping import flat_shape, flatten, reshape_to
from .special import relu
from .windows import places_of

__all__ = ["in_turn"]


class _Outline(NamedTuple):
    """What is known of a result before it is computed."""

    shape: Shape
    dtype: DType

    @property
    def ndim(self) -> int:
        return len(self.shape)


_Part = tuple[list[Link], Shape]
"""Operations, and the shape of their result."""


def _elementwise(function: Any, x: Any, arguments: tuple[Any, ...]) -> _Part | None:
    primitive = getattr(function, "primitive", None)
    if arguments or primitive is None or primitive.kind != ELEMENTWISE or len(primitive.arguments) != 1:
        return None
    return [Link(primitive)], x.shape


def _convolution(rank: int) -> Callable[..., _Part | None]:
    def part(
        x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> _Part | None:
        if x.ndim != rank + 2:
            return None
        links = convolution_links(x, weight, bias, rank, stride, padding, dilation, groups)
        kernels, moves = links[0].others[0], links[0].params
        return links, (x.shape[0], kernels.shape[0], *places_of(x.shape[2:], kernels.shape[2:], moves))

    return part


def _max_pool(rank: int) -> Callable[..., _Part | None]:
    def part(
        x: Any, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> _Part | None:
        if x.ndim != rank + 2:
            return None
        links = max_pool_links(x, kernel, stride, padding, dilation, ceil_mode)
        moves = links[0].params
        return links, (*x.shape[:2], *places_of(x.shape[2:], moves["window"], moves))

    return part


def _linear(x: Any, weight: Any, bias: Any = None) -> _Part:
    links = linear_links(x, weight, bias)
    return links, (*x.shape[:-1], links[0].others[0].shape[0])


def _flatten(x: Any, start: int = 0, end: int = -1) -> _Part | None:
    if not x.shape:
        return None
    shape = flat_shape(x.shape, start, end)
    return [Link(reshape_to.primitive, (), {"newshape": shape})], shape


_PARTS: dict[Any, Callable[..., _Part | None]] = {
    conv1d: _convolution(1),
    conv2d: _convolution(2),
    max_pool1d: _max_pool(1),
    max_pool2d: _max_pool(2),
    linear: _linear,
    flatten: _flatten,
}
_MAX_POOLS = (max_pool1d, max_pool2d, max_pool3d)


def in_turn(x: ArrayLike, *steps: tuple[Any, ...]) -> Any:
    """Apply functions in turn, the first to `x`, each other one to the result of the one before it.

    It is what calling one after the other would be, gradients included. But as nobody sees the results in between,
    native code fuses what it can: of large float arrays, convolution, pooling, linear maps and elementwise functions.
    Where max pooling follows `relu`, it is done first, which gives the same with fewer elements to look at.

    Args:
        x: what the first function is applied to.
        steps: tuples of a function and its further arguments.

    >>> import wengert as wg
    >>> wg.in_turn(wg.tensor([[-1.0, 4.0]]), (wg.relu,), (wg.linear, wg.ones((3, 2))), (wg.sqrt,)).tolist()
    [[2.0, 2.0, 2.0]]
    """
    ordered = _ordered(steps)
    if is_large(x):
        recipe = _recipe(x, ordered)
        if recipe is not None:
            return bind_form(x, recipe.form, recipe.operands(ordered))
    links: list[Link] = []
    outline: Any = x
    for function, *arguments in ordered:
        part = _part(function, outline, arguments, not links) if links or is_large(x) else None
        if part is None:
            x = function(bind_chain(x, links), *arguments)
            links, outline = [], x
            continue
        links += part[0]
        outline = _Outline(part[1], outline.dtype)
    return bind_chain(x, links)


class _Recipe:
    """A chain without its arrays, for steps that differ in nothing else: nothing has to be checked again.

    Attributes:
        form: the operations.
        places: of each of them, where its operands but the first are among the steps.
    """

    __slots__ = ("form", "places")

    def __init__(self, links: Sequence[Link], steps: Sequence[tuple[Any, ...]]) -> None:
        self.form = Form(links)
        found = {id(value): (i, j) for i, step in enumerate(steps) for j, value in enumerate(step)}
        self.places = [tuple([found[id(other)] for other in link.others]) for link in links]

    def operands(self, steps: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the operands of the operations."""
        return [tuple([steps[i][j] for i, j in places]) for places in self.places]


_recipes: dict[Any, _Recipe | None] = {}
_MOST_RECIPES = 256


def _recipe(x: Any, steps: Sequence[tuple[Any, ...]]) -> _Recipe | None:
    """Return what is known of such steps; None if not all of them can be links, or they have to be looked at."""
    key: list[Any] = [x.shape, x.dtype]
    for step in steps:
        if not _can_be_link(step[0]):
            return None
        for value in step:
            if type(value) is boxing.Tensor:
                key += (value.shape, value.dtype)
            elif isinstance(value, boxing.Tensor):
                return None
            else:
                key += (type(value), value)
    made = tuple(key)
    try:
        if made in _recipes:
            return _recipes[made]
    except TypeError:  # lists, for example
        return None
    if len(_recipes) >= _MOST_RECIPES:
        _recipes.clear()
    _recipes[made] = None  # whatever goes wrong, it is the steps themselves that will say so
    recipe = _recipes[made] = _made(x, steps)
    return recipe


def _made(x: Any, steps: Sequence[tuple[Any, ...]]) -> _Recipe | None:
    # Boxes of their own, so that a Tensor which is there twice is not taken for one that always will be.
    apart = [tuple([boxing.box(boxing.data_of(v)) if type(v) is boxing.Tensor else v for v in step]) for step in steps]
    outline, links = _Outline(x.shape, x.dtype), list[Link]()
    for function, *arguments in apart:
        part = _part(function, outline, arguments, not links)
        if part is None:
            return None
        links += part[0]
        outline = _Outline(part[1], x.dtype)
    return _Recipe(links, apart) if len(links) > 1 else None


def _ordered(steps: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
    """Let max pooling change places with `relu` before it: both keep the order of elements, and NaN."""
    ordered = list(steps)
    for place in range(1, len(ordered)):
        before, step = ordered[place - 1 : place + 1]
        if len(before) == 1 and before[0] is relu and any([step[0] is pool for pool in _MAX_POOLS]):
            ordered[place - 1 : place + 1] = step, before
    return ordered


def _can_be_link(function: Any) -> bool:
    return type(function) is FunctionType and (function in _PARTS or hasattr(function, "primitive"))


def _part(function: Any, x: Any, arguments: list[Any], begins: bool) -> _Part | None:
    if x.dtype.kind != "f":
        return None
    make = _PARTS.get(function) if _can_be_link(function) else None
    part = _elementwise(function, x, tuple(arguments)) if make is None else make(x, *arguments)
    return None if begins and part is not None and part[0][0].primitive.view else part

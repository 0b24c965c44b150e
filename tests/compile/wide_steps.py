"""Steps of wide random programs: each draws what it needs from a few integers, and makes values, or changes some."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import wengert as wg
from tests.compile.wide_world import Scope

F = wg.nn.functional
Step = tuple[Any, ...]
"""A name and integers."""


class Draws:
    """Choices that are read off a step's integers, so that a program without some of its steps is one, too."""

    def __init__(self, integers: Sequence[int]) -> None:
        self._integers = integers
        self._place = 0

    def below(self, count: int) -> int:
        number = self._integers[self._place % len(self._integers)]
        self._place += 1
        return number % count

    def of(self, choices: Sequence[Any]) -> Any:
        return choices[self.below(len(choices))]

    def value(self, values: list[Any]) -> Any:
        """Return one of the values: the newest are likelier."""
        if self.below(2):
            return values[-1 - self.below(min(4, len(values)))]
        return values[self.below(len(values))]

    def partner(self, values: list[Any], x: Any) -> Any:
        """Return a value that broadcasts with another, if there is one; else one that has been made to."""
        y = self.value(values)
        try:
            np.broadcast_shapes(x.shape, y.shape)
        except ValueError:
            fit = [v for v in values if v.shape == x.shape]
            return self.of(fit) if self.below(2) else y.mean()
        return y

    def axis(self, x: Any) -> int:
        return self.below(x.ndim) - (x.ndim if self.below(2) else 0)

    def key(self, x: Any) -> Any:
        """Return a key for an axis or more: basic, of positions, of truths."""
        whole = slice(None)
        n = x.shape[0]
        choices: list[Any] = [
            *(0, -1, whole, ..., None, slice(1, None), slice(None, None, -1), slice(None, None, 2), slice(-2, None)),
            *((..., 0), (..., slice(None, 1)), (..., slice(None, None, -1)), (None, 0), [0, -1, 0], slice(0, 0)),
            *(np.arange(n) % 2 == 0, wg.tensor([0, n - 1]), (..., [0, 0, -1]), (slice(None, None, -1), ..., None)),
        ]
        if x.ndim > 1:
            choices += [
                (whole, 0),
                (0, 0),
                ([0, -1], [0, 0]),
                (whole, [0, -1]),
                (whole, None),
                ([0, -1], slice(1, None)),
            ]
        return self.of(choices)


# ---------------------------------------------------------------------- values

UNARY: list[Callable[[Any], Any]] = [
    *(
        wg.sin,
        wg.cos,
        wg.tanh,
        wg.arctan,
        wg.square,
        wg.negative,
        wg.abs,
        wg.sign,
        wg.relu,
        wg.sigmoid,
        wg.silu,
        wg.gelu,
    ),
    *(wg.erf, wg.softplus, wg.log_sigmoid, wg.positive, wg.conj, wg.real, wg.isnan, wg.isfinite, wg.fabs),
    *(wg.gelu_tanh, wg.sinc, wg.arcsinh, wg.cbrt, wg.logical_not, wg.rint, wg.floor, wg.ceil, wg.trunc),
    *(lambda x: wg.exp(-wg.abs(x)), lambda x: wg.expm1(-wg.abs(x)), lambda x: wg.log1p(wg.abs(x))),
    *(
        lambda x: wg.sqrt(wg.abs(x)),
        lambda x: wg.log(wg.abs(x) + 0.5),
        lambda x: 1 / (x * x + 1),
        lambda x: wg.exp2(-x * x),
    ),
    *(lambda x: x**2, lambda x: x**3, lambda x: x**-1.0, lambda x: wg.abs(x) ** 0.5, lambda x: x**0, lambda x: 2.0**x),
    # nan_to_num is an operation that programs are made of, with a mask in its gradient; results are compared as they
    # come, NaN for NaN, and nothing is replaced in them.
    *(lambda x: wg.clip(x, -0.5, 0.75), lambda x: wg.clip(x, None, 0.5), lambda x: wg.clip(x, 0.1), wg.nan_to_num),
    *(lambda x: x.clone(), lambda x: x.detach(), wg.stop_gradient, lambda x: x - x, lambda x: x * 1),
    *(lambda x: x.astype("float32"), lambda x: x.astype("float64"), lambda x: x.astype("int64"), lambda x: x != 0),
    *(
        lambda x: x // 0.7,
        lambda x: x % 0.7,
        lambda x: wg.fmod(x, 0.6),
        lambda x: x > 0.3,
        lambda x: x <= -0.2,
        lambda x: 3 - x,
    ),
    *(np.sin, np.square, lambda x: wg.where(x > 0, x, 0), lambda x: wg.where(x * x > 0.01, wg.log(x * x), 0.0)),
    *(
        lambda x: wg.where(x > 0.2, wg.sqrt(x - 0.1), x),
        lambda x: F.leaky_relu(x, 0.1),
        lambda x: F.elu(x),
        wg.asarray,
        wg.tensor,
    ),
    *(
        lambda x: wg.zeros_like(x),
        lambda x: wg.ones_like(x),
        lambda x: wg.full_like(x, 0.5),
        lambda x: x + len(x.shape),
    ),
]
BINARY: list[Callable[[Any, Any], Any]] = [
    *(wg.add, wg.subtract, wg.multiply, wg.maximum, wg.minimum, wg.hypot, wg.fmax, wg.fmin),
    # NumPy leaves the sign of a zero to its loops (in fmin, say), and an angle of pi tells it.
    lambda x, y: wg.arctan2(wg.where(x == 0, 0.5, x), y),
    wg.less,
    # What is equal but for a rounding is for no play with moved numbers to find: they are never equal there.
    lambda x, y: wg.equal(wg.rint(8.0 * x), wg.rint(8.0 * y)),
    wg.greater_equal,
    lambda x, y: wg.not_equal(wg.rint(8.0 * x), wg.rint(8.0 * y)),
    lambda x, y: wg.logical_and(wg.rint(8.0 * x), wg.rint(8.0 * y)),
    lambda x, y: wg.logical_xor(wg.rint(8.0 * x), wg.rint(8.0 * y)),
    lambda x, y: wg.heaviside(wg.rint(8.0 * x), y),
    wg.logaddexp,
    *(
        lambda x, y: x + y,
        lambda x, y: x * y,
        lambda x, y: x - 0.5 * y,
        lambda x, y: x / (2 + y * y),
        lambda x, y: x * y,
    ),
    *(
        lambda x, y: x / y,
        lambda x, y: wg.abs(x) ** y,
        lambda x, y: wg.where(x > y, x, y),
        lambda x, y: wg.where(x, y, 0.0),
    ),
    *(lambda x, y: x * (y > 0), lambda x, y: wg.xlogy(wg.abs(x), wg.abs(y)), lambda x, y: wg.where(x > 0.3, y, x * x)),
    *(
        lambda x, y: np.add(x, y),
        lambda x, y: np.maximum(x, y),
        lambda x, y: x % (1 + y * y),
        lambda x, y: x // (1 + y * y),
    ),
]
REDUCTIONS: list[Callable[..., Any]] = [
    *(wg.sum, wg.sum, wg.mean, wg.max, wg.min, wg.prod, wg.var, wg.std, wg.logsumexp, wg.vector_norm, wg.any, wg.all),
    *(wg.nansum, wg.nanmax, wg.nanmean, wg.count_nonzero, wg.median, wg.ptp, wg.amax),
]
ALONG: list[Callable[..., Any]] = [
    *(wg.cumsum, wg.cumprod, wg.softmax, wg.log_softmax, wg.sort, wg.flip, wg.argmax, wg.argmin, wg.diff, wg.argsort),
    *(lambda x, axis: wg.roll(x, 1, axis=axis), lambda x, axis: wg.repeat(x, 2, axis=axis), wg.expand_dims),
    *(lambda x, axis: wg.topk(x, 1, axis=axis)[0], lambda x, axis: wg.moveaxis(x, axis, 0), wg.squeeze),
    *(lambda x, axis: wg.take(x, wg.tensor([0, 0, -1]), axis=axis), lambda x, axis: wg.stack([x, x * 2], axis=axis)),
    *(
        lambda x, axis: wg.concatenate([x, x * 2], axis=axis),
        lambda x, axis: wg.take_along_axis(x, wg.argsort(x, axis=axis), axis),
    ),
    *(lambda x, axis: wg.split(x, [1], axis=axis)[1], lambda x, axis: x - x.mean(axis, keepdims=True), wg.trapezoid),
    *(lambda x, axis: F.layer_norm(x, (x.shape[-1],)), lambda x, axis: F.normalize(x, axis=axis)),
]
SHAPES: list[Callable[[Any], Any]] = [
    *(lambda x: x.T, lambda x: x.reshape(-1), lambda x: x.reshape(x.shape[::-1]), lambda x: x[None], lambda x: x.mT),
    *(lambda x: wg.swapaxes(x, 0, -1), wg.ravel, wg.atleast_2d, lambda x: wg.broadcast_to(x, (2, *x.shape)), wg.rot90),
    *(lambda x: wg.pad(x, 1), lambda x: wg.pad(x, ((1, 0),) * x.ndim, constant_values=0.5), lambda x: wg.tile(x, 2)),
    *(lambda x: wg.pad(x, 1, mode="edge"), lambda x: wg.pad(x, 1, mode="reflect"), wg.tril, lambda x: wg.triu(x, 1)),
    *(wg.diag, wg.trace, wg.diagonal, wg.fliplr, wg.flipud, lambda x: x.flatten(), lambda x: wg.diagonal(x, 1)),
    *(lambda x: x.reshape(-1), lambda x: x.T.reshape(-1)),
    *(lambda x: wg.unstack(x)[0], lambda x: x[x.shape[0] // 2], lambda x: wg.delete(x, 0, axis=0), lambda x: [*x][-1]),
]
PRODUCTS: list[Callable[[Any, Any], Any]] = [
    *(lambda x, y: x @ y, lambda x, y: x @ y, lambda x, y: x @ y.T, lambda x, y: x.T @ y, wg.outer, wg.inner),
    *(lambda x, y: wg.einsum("ij,kj->ik", x, y), lambda x, y: wg.einsum("ij,ij->j", x, y), wg.vdot),
    *(lambda x, y: wg.tensordot(x, y, axes=1), lambda x, y: wg.einsum("...i,...i->...", x, y), wg.kron),
    *(lambda x, y: wg.concatenate([x, y]), lambda x, y: wg.stack([x, y]), lambda x, y: wg.hstack([x, y])),
    *(lambda x, y: F.linear(x, y), lambda x, y: F.scaled_dot_product_attention(x, y, y, is_causal=True)),
    *(
        lambda x, y: F.conv1d(x.reshape(1, 1, -1), y.reshape(1, 1, -1)[..., :3], padding=1),
        lambda x, y: F.mse_loss(x, y),
    ),
    *(lambda x, y: F.max_pool1d(x.reshape(1, 1, -1), 2) + y.sum(), lambda x, y: wg.avg_pool1d(x.reshape(1, 1, -1), 2)),
    *(lambda x, y: F.cross_entropy(x, wg.argmax(y, axis=-1)), lambda x, y: F.embedding((y > 0).astype("int64"), x)),
    *(lambda x, y: wg.add_at(x, wg.tensor([0, 0]), y) if hasattr(wg, "add_at") else x, lambda x, y: wg.cross(x, y)),
]


def _smooth(y: Any) -> Any:
    return wg.sin(y) * y + wg.tanh(y)


def _scalar(y: Any, other: Any) -> Any:
    return (wg.sin(y) * other.sum() * y).sum()


TRANSFORMS: list[Callable[[Any, Any], Any]] = [
    lambda x, y: wg.grad(lambda z: _scalar(z, y))(x),
    lambda x, y: wg.value_and_grad(lambda z: _scalar(z, z * 0.5))(x)[1],
    lambda x, y: wg.jvp(_smooth, (x,), (x * 0 + 1,))[1],
    lambda x, y: wg.jvp(lambda z: z * y, (x,), (wg.cos(x),))[1],
    lambda x, y: wg.vjp(_smooth, x)[1](x * 0.5)[0],
    lambda x, y: wg.vmap(lambda row: wg.tanh(row) * row.sum())(x),
    lambda x, y: wg.vmap(lambda row: row * y.sum(), in_axes=-1, out_axes=-1)(x),
    lambda x, y: wg.vmap(wg.grad(lambda row: (row * wg.sin(row)).sum()))(x),
    lambda x, y: wg.hvp(lambda z: _scalar(z, y), (x,), (x,)),
    lambda x, y: wg.jacrev(lambda z: wg.tanh(z) * z.sum())(x[..., :2]),
    lambda x, y: wg.jacfwd(lambda z: wg.tanh(z) * z.sum())(x[..., :2]),
    lambda x, y: wg.hessian(lambda z: _scalar(z, z))(x[..., :2]),
    lambda x, y: wg.linearize(_smooth, x)[1](x),
    lambda x, y: wg.checkpoint(_smooth)(x),
    lambda x, y: wg.grad(lambda z: wg.grad(lambda t: _scalar(t, y))(z).sum())(x),
    lambda x, y: wg.scan(lambda c, row: (wg.tanh(c + row.sum()), c * row), y.sum(), x)[1],
    lambda x, y: wg.fori_loop(0, 3, lambda i, c: wg.sin(c) + y.sum(), x),
    lambda x, y: wg.while_loop(lambda c: wg.abs(wg.abs(c).sum() - 50.5) < 49.5, lambda c: c * 0.5, x),
    lambda x, y: wg.cond(x.sum() > 0.1, lambda a: a * 2, lambda a: wg.sin(a), x),
    lambda x, y: wg.grad(lambda z: wg.scan(lambda c, r: (c * 0.5 + r.sum(), c), z.sum(), z)[0])(x),
]


def keyed(scope: Scope, values: list[Any], d: Draws) -> Any:
    x = d.value(values)
    return x[d.key(x)]


RANDOM: list[Callable[[Scope, list[Any], Draws], Any]] = [
    lambda scope, values, d: wg.random.normal(size=d.value(values).shape, dtype=scope.dtype) * 0.1,
    lambda scope, values, d: wg.random.uniform(size=d.value(values).shape, dtype=scope.dtype),
    lambda scope, values, d: wg.random.integers(0, 3, d.value(values).shape),
    lambda scope, values, d: F.dropout(d.value(values), 0.4),
    lambda scope, values, d: wg.random.bernoulli(wg.sigmoid(d.value(values))),
    lambda scope, values, d: wg.random.permutation(d.value(values)),
]


# ---------------------------------------------------------------------- what changes things


def other(values: list[Any], x: Any, d: Draws) -> Any:
    return d.of([d.partner(values, x), d.partner(values, x), 0.5, 1])


def write_all(values: list[Any], place: int, d: Draws) -> None:
    values[place].copy_(other(values, values[place], d))


def write_sum(values: list[Any], place: int, d: Draws) -> None:
    values[place] += other(values, values[place], d)


def write_half(values: list[Any], place: int, d: Draws) -> None:
    values[place] *= 0.5


def write_difference(values: list[Any], place: int, d: Draws) -> None:
    values[place] -= other(values, values[place], d) * 0.1


def write_shifted(values: list[Any], place: int, d: Draws) -> None:
    values[place][1:] = values[place][:-1]


def write_swapped(values: list[Any], place: int, d: Draws) -> None:
    x = values[place]
    x[0], x[-1] = x[-1], x[0]


def write_backwards(values: list[Any], place: int, d: Draws) -> None:
    values[place][::-1] += values[place] * 0.25


def write_number(values: list[Any], place: int, d: Draws) -> None:
    values[place].fill_(0.5)


def write_zeros(values: list[Any], place: int, d: Draws) -> None:
    values[place].zero_()


def write_out(values: list[Any], place: int, d: Draws) -> None:
    wg.sin(d.value(values), out=values[place])


def _for_part(values: list[Any], x: Any, key: Any, d: Draws) -> Any:
    y = other(values, x, d)
    return y if not isinstance(y, wg.Tensor) or y.ndim <= x[key].ndim else y.mean()


def write_part(values: list[Any], place: int, d: Draws) -> None:
    x = values[place]
    key = d.key(x)
    x[key] = _for_part(values, x, key, d)


def write_part_sum(values: list[Any], place: int, d: Draws) -> None:
    x = values[place]
    key = d.key(x)
    x[key] += _for_part(values, x, key, d)


def write_part_product(values: list[Any], place: int, d: Draws) -> None:
    x = values[place]
    key = d.key(x)
    x[key] *= _for_part(values, x, key, d)


WRITES = [
    *(write_all, write_sum, write_half, write_difference, write_shifted, write_swapped, write_backwards, write_number),
    *(write_zeros, write_out, write_part, write_part, write_part_sum, write_part_product),
]


def branch_on_sum(scope: Scope, values: list[Any], d: Draws) -> Any:
    x, y = d.value(values), d.value(values)
    return y * 2 if bool(x.sum() > 0.2) else wg.sin(y)


def branch_on_place(scope: Scope, values: list[Any], d: Draws) -> Any:
    x, y = d.value(values), d.value(values)
    return y * (1 + int(wg.argmax(x)))


def loop_on_size(scope: Scope, values: list[Any], d: Draws) -> Any:
    total = d.value(values).sum() * 1
    steps = 0
    while bool(wg.abs(total) > 1.0) and steps < 4:
        total = total * 0.5
        steps += 1
    return total + steps


def loop_over_rows(scope: Scope, values: list[Any], d: Draws) -> Any:
    out = d.value(values)
    for row in d.value(values)[:3]:
        out = out + row.sum() if bool((row > 0).all()) else out * 0.5
    return out


def tried(scope: Scope, values: list[Any], d: Draws) -> Any:
    x, y = d.value(values), d.value(values)
    try:
        return x @ y
    except ValueError:
        return x.sum() + y.sum()


def sliced_by_count(scope: Scope, values: list[Any], d: Draws) -> Any:
    x, y = d.value(values), d.value(values)
    return y[: int((x > 0).sum()) % 3 + 1]


BRANCHES = [branch_on_sum, branch_on_place, loop_on_size, loop_over_rows, tried, sliced_by_count]


def _loss(scope: Scope, values: list[Any], d: Draws) -> Any:
    x, y, leaf = d.value(values), d.value(values), scope.leaves[d.below(2)]
    return (wg.tanh(x) * d.of([1.0, y.sum(), leaf.sum()])).sum()


def backward(scope: Scope, values: list[Any], d: Draws) -> None:
    loss = _loss(scope, values, d)
    if loss.requires_grad:
        loss.backward(retain_graph=True)


def recorded_backward(scope: Scope, values: list[Any], d: Draws) -> None:
    loss = _loss(scope, values, d)
    if loss.requires_grad:
        loss.backward(create_graph=True)


def give_gradient(scope: Scope, values: list[Any], d: Draws) -> None:
    leaf = scope.leaves[d.below(2)]
    fit = [value for value in values if value.shape == leaf.shape and value.dtype == leaf.dtype]
    if fit:
        leaf.grad = d.of([d.of(fit), d.of(fit).detach()])


def gradient(scope: Scope, values: list[Any], d: Draws) -> Any:
    loss, leaf = _loss(scope, values, d), scope.leaves[d.below(2)]
    if not loss.requires_grad or not leaf.requires_grad:
        return loss
    return wg.autograd.grad(loss, [leaf], create_graph=bool(d.below(2)), allow_unused=True, retain_graph=True)[0]


def gradient_by_itself(scope: Scope, values: list[Any], d: Draws) -> Any:
    z = d.value(values).detach().clone().requires_grad_()
    if not wg.is_grad_enabled():
        return z.detach()
    return wg.autograd.grad((wg.sin(z) * z).sum(), [z])[0]


def taped(scope: Scope, values: list[Any], d: Draws) -> Any:
    leaf = scope.leaves[d.below(2)]
    with wg.GradientTape() as tape:
        tape.watch(leaf)
        out = (wg.sin(leaf) * leaf * d.value(values).sum()).sum()
    return tape.gradient(out, leaf)


def hooked(scope: Scope, values: list[Any], d: Draws) -> Any:
    z = scope.leaves[d.below(2)] * 2
    if not z.requires_grad:
        return z
    z.register_hook(_doubled)
    (z * z).sum().backward(retain_graph=True)
    return z


def _doubled(bar: Any) -> Any:
    return bar * 2


DERIVATIVES = [
    *(backward, backward, gradient, gradient_by_itself, taped, hooked),
    *(recorded_backward, give_gradient),
]


def read_gradient(scope: Scope, values: list[Any], d: Draws) -> Any:
    leaf = scope.leaves[d.below(2)]
    return leaf.clone() if leaf.grad is None else leaf.grad * 2


def gradient_itself(scope: Scope, values: list[Any], d: Draws) -> Any:
    return scope.leaves[d.below(2)].grad


def drop_gradient(scope: Scope, values: list[Any], d: Draws) -> None:
    scope.leaves[d.below(2)].grad = None


def descend(scope: Scope, values: list[Any], d: Draws) -> None:
    leaf = scope.leaves[d.below(2)]
    if leaf.grad is not None:
        with wg.no_grad():
            leaf.copy_(leaf - 0.1 * wg.tanh(leaf.grad))


def optimise(scope: Scope, values: list[Any], d: Draws) -> None:
    for one in [*scope.leaves, *scope.module.parameters()]:
        if one.grad is not None:
            one.grad = wg.tanh(one.grad)
    scope.optimizer.step()


def zero_gradients(scope: Scope, values: list[Any], d: Draws) -> None:
    scope.optimizer.zero_grad()


def set_aside(scope: Scope, values: list[Any], d: Draws) -> None:
    scope.box.scale = scope.box.scale * 0.5 + d.of([0.0, 0.25])


def sum_by_numpy(scope: Scope, values: list[Any], d: Draws) -> Any:
    return d.value(values) * (float(scope.array.sum()) if np.isfinite(scope.array).all() else 2.0)


OUTSIDE: list[Callable[[Scope, list[Any], Draws], Any]] = [
    *(read_gradient, drop_gradient, descend, optimise, optimise, zero_gradients, sum_by_numpy),
    lambda scope, values, d: d.value(values) * scope.array,
    lambda scope, values, d: wg.asarray(scope.array) + 1,
    lambda scope, values, d: d.value(values)[scope.positions],
    lambda scope, values, d: d.value(values) * scope.array[..., :1].sum() + scope.array.mean(),
    lambda scope, values, d: wg.sin(d.value(values)) if scope.box.flag else d.value(values) * scope.box.scale,
    lambda scope, values, d: d.value(values) * scope.box.scale,
    lambda scope, values, d: FUNCTIONS[scope.box.name](d.value(values)),
    lambda scope, values, d: sum([part.sum() for part in scope.box.parts]) * d.value(values),
    lambda scope, values, d: scope.box.table["x"] * scope.box.table["n"],
    lambda scope, values, d: scope.module(
        d.value(values).astype(scope.dtype).reshape(-1, scope.module[0].weight.shape[1])
    ),
    lambda scope, values, d: scope.helper(d.value(values), d.value(values)),
    lambda scope, values, d: scope.buffers[d.below(3)],
    lambda scope, values, d: scope.box.parts[-1],
    *(gradient_itself, set_aside),
]
FUNCTIONS = {"tanh": wg.tanh, "sin": wg.sin}


def take_unary(scope: Scope, values: list[Any], op: Any, d: Draws) -> Any:
    return op(d.value(values))


def take_unrecorded(scope: Scope, values: list[Any], op: Any, d: Draws) -> Any:
    with wg.no_grad():
        return op(d.value(values))


def take_binary(scope: Scope, values: list[Any], op: Any, d: Draws) -> Any:
    x = d.value(values)
    return op(x, d.partner(values, x))


def take_pair(scope: Scope, values: list[Any], op: Any, d: Draws) -> Any:
    return op(d.value(values), d.value(values))


def take_along(scope: Scope, values: list[Any], op: Any, d: Draws) -> Any:
    x = d.value(values)
    return op(x, axis=d.axis(x))


def take_reduced(scope: Scope, values: list[Any], op: Any, d: Draws) -> Any:
    x = d.value(values)
    axis = d.of([None, d.axis(x) if x.ndim else None, 0, -1, tuple(range(x.ndim))])
    return op(x, axis=axis, keepdims=bool(d.below(2)))


def take_written(scope: Scope, values: list[Any], op: Any, d: Draws) -> Any:
    with wg.no_grad() if d.below(4) else contextlib.nullcontext():
        op(values, d.below(len(values)), d)


def take_whole(scope: Scope, values: list[Any], op: Any, d: Draws) -> Any:
    return op(scope, values, d)


Kind = tuple[Callable[..., Any], Sequence[Any]]
KINDS: dict[str, Kind] = {
    "unary": (take_unary, UNARY),
    "unrecorded": (take_unrecorded, UNARY),
    "binary": (take_binary, BINARY),
    "reduce": (take_reduced, REDUCTIONS),
    "along": (take_along, ALONG),
    "shape": (take_unary, SHAPES),
    "product": (take_pair, PRODUCTS),
    "transform": (take_pair, TRANSFORMS),
    "key": (take_whole, [keyed]),
    "write": (take_written, WRITES),
    "branch": (take_whole, BRANCHES),
    "differentiate": (take_whole, DERIVATIVES),
    "random": (take_whole, RANDOM),
    "outside": (take_whole, OUTSIDE),
}
NAMES = [
    *("unary", "unary", "unary", "binary", "binary", "binary", "reduce", "reduce", "along", "along", "shape", "shape"),
    *("product", "product", "key", "key", "write", "write", "write", "branch", "differentiate", "differentiate"),
    *("transform", "transform", "random", "outside", "outside", "outside", "unrecorded"),
]


def resolved(step: Step) -> tuple[Any, Any, Sequence[int]]:
    """Return how a step is taken, by which operation, and its other integers: a program names what it needs alone."""
    name, which, *integers = step
    how, operations = KINDS[name]
    return how, operations[which % len(operations)], tuple(integers)


def take(scope: Scope, values: list[Any], step: tuple[Any, Any, Sequence[int]]) -> None:
    """Take a resolved step: append its result to the values, or change something."""
    how, op, integers = step
    made = how(scope, values, op, Draws(integers))
    if made is None:
        return
    made = made if isinstance(made, wg.Tensor) else wg.asarray(made)
    if scope.jitter is not None:
        made = scope.jitter.of_tensor(made, [*values, *scope.leaves, *scope.buffers, *scope.module.buffers()])
    values.append(made)


__all__ = ["NAMES", "Draws", "Step", "resolved", "take"]

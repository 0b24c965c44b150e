"""LSTMs: the step from gates to state, which stands between two matrix products; and all states of a sequence.

Steps are made of elementwise operations, which transforms and captures follow one by one. Where nobody follows, many
steps are one operation: its sweep computes all that does not depend on the sweep itself for all steps at once.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..core import boxing, capturing
from ..core.dispatch import bind
from ..declare import Sample, composite, opaque
from ..declare.batching import to_front
from ..declare.structured import guard_tracked
from ..errors import ShapeError
from ..typing import Array, ArrayLike, Namespace
from .affine import linear
from .creation import asarray
from .hyperbolic import tanh
from .joining import stack
from .special import sigmoid

__all__ = ["lstm_states", "lstm_step"]


@composite(samples=[Sample((2, 12), (2, 3)), Sample((8,), (2,)), Sample((2, 1, 4), (2, 1, 1))])
def lstm_step(gates: ArrayLike, c: ArrayLike) -> tuple[Any, Any]:
    """Output and cell state of an LSTM (S. Hochreiter and J. Schmidhuber, 1997; with F. Gers' forget gate, 2000).

    The last axis of `gates` holds those for input, forgetting, proposal and output, in this order, before their
    activations, each as many as `c` has cells: c' = sigmoid(f) c + sigmoid(i) tanh(g), and h' = sigmoid(o) tanh(c').

    Returns:
        h' and c'.

    Raises:
        ShapeError: the gates are not four for each cell.

    >>> import wengert as wg
    >>> h, c = wg.lstm_step(wg.zeros(4), wg.ones(1))
    >>> c.tolist()
    [0.5]
    """
    opened, cells = asarray(gates), asarray(c)
    n = cells.shape[-1] if cells.ndim else 0
    if not cells.ndim or opened.shape != (*cells.shape[:-1], 4 * n):
        raise ShapeError(
            f"lstm_step: gates of shape {opened.shape} are not four for each cell, whose shape is {cells.shape}; their "
            "last axis is four times as long"
        )
    write, keep, proposal, show = [opened[..., k * n : (k + 1) * n] for k in range(4)]
    state = sigmoid(keep) * cells + sigmoid(write) * tanh(proposal)
    return sigmoid(show) * tanh(state), state


def _step(xp: Namespace, gates: Array, c: Array) -> tuple[Array, Array]:
    n = c.shape[-1]
    opened = xp.expit(gates[..., : 2 * n])
    c = opened[..., n:] * c + opened[..., :n] * xp.tanh(gates[..., 2 * n : 3 * n])
    return xp.expit(gates[..., 3 * n :]) * xp.tanh(c), c


def _states(xp: Namespace, driven: Array, h: Array, c: Array, weight: Array) -> Array:
    if driven.shape[-1] != 4 * h.shape[-1]:
        raise ValueError("there are not four gates for each cell")
    turned = xp.swapaxes(weight, -1, -2)
    outputs: list[Array] = []
    cells: list[Array] = []
    for step in range(driven.shape[0]):
        h, c = _step(xp, driven[step] + xp.matmul(h, turned), c)
        outputs.append(h)
        cells.append(c)
    return xp.stack([xp.stack(outputs), xp.stack(cells)])


@opaque(samples=[Sample((3, 2, 8), (2, 2), (2, 2), (8, 2)), Sample((1, 1, 4), (1, 1), (1, 1), (4, 1))])
def lstm_sequence_states(xp: Namespace, driven: Array, h: Array, c: Array, weight: Array) -> Array:
    """Outputs and cells of an LSTM after every step, one behind the other."""
    return _states(xp, driven, h, c, weight)


@lstm_sequence_states.vjp
def lstm_sequence_states_vjp(
    xp: Namespace, out_bar: Array, out: Array, driven: Array, h: Array, c: Array, weight: Array
) -> tuple[Array, ...]:
    n = h.shape[-1]
    before = xp.concatenate([xp.expand_dims(h, 0), out[0][:-1]])
    cells_before = xp.concatenate([xp.expand_dims(c, 0), out[1][:-1]])
    gates = driven + xp.matmul(before, xp.swapaxes(weight, -1, -2))
    opened = xp.expit(gates)
    write, keep, show = opened[..., :n], opened[..., n : 2 * n], opened[..., 3 * n :]
    proposal, shown = xp.tanh(gates[..., 2 * n : 3 * n]), xp.tanh(out[1])
    # Of each step: what a cell's cotangent is times for that of its gates, and an output's for its gate and its cell.
    by_cell = [proposal * write * (1 - write), cells_before * keep * (1 - keep), write * (1 - proposal * proposal)]
    to_gates, to_gate = xp.concatenate(by_cell, axis=-1), shown * show * (1 - show)
    to_cell = show * (1 - shown * shown)
    h_bar = c_bar = xp.zeros_like(h)
    bars: list[Array] = []
    for step in reversed(range(driven.shape[0])):
        h_bar = h_bar + out_bar[0][step]
        c_bar = c_bar + out_bar[1][step] + xp.guarded_product(to_cell[step], h_bar)
        through = xp.guarded_product(to_gates[step], xp.concatenate([c_bar, c_bar, c_bar], axis=-1))
        bars.append(xp.concatenate([through, xp.guarded_product(to_gate[step], h_bar)], axis=-1))
        h_bar = guard_tracked(xp, xp.matmul(bars[-1], weight), weight, bars[-1], _through_weight)
        c_bar = xp.guarded_product(keep[step], c_bar)
    driven_bar = xp.stack(bars[::-1])
    gates_bar, rows = xp.reshape(driven_bar, (-1, 4 * n)), xp.reshape(before, (-1, n))
    weight_bar = guard_tracked(xp, _of_weight(rows, gates_bar), rows, gates_bar, _of_weight)
    return driven_bar, h_bar, c_bar, weight_bar


def _through_weight(weight: Array, out_bar: Array) -> Array:
    return out_bar @ weight


def _of_weight(rows: Array, out_bar: Array) -> Array:
    return out_bar.T @ rows


@lstm_sequence_states.jvp
def lstm_sequence_states_jvp(
    xp: Namespace,
    out: Array,
    driven: Array,
    h: Array,
    c: Array,
    weight: Array,
    driven_dot: Array,
    h_dot: Array,
    c_dot: Array,
    weight_dot: Array,
) -> Array:
    n = h.shape[-1]
    turned, turned_dot = xp.swapaxes(weight, -1, -2), xp.swapaxes(weight_dot, -1, -2)
    moves: list[Array] = []
    cell_moves: list[Array] = []
    for step in range(driven.shape[0]):
        gates = driven[step] + xp.matmul(h, turned)
        gates_dot = driven_dot[step] + xp.matmul(h_dot, turned) + xp.matmul(h, turned_dot)
        opened = xp.expit(gates)
        write, keep, show = opened[..., :n], opened[..., n : 2 * n], opened[..., 3 * n :]
        proposal, shown = xp.tanh(gates[..., 2 * n : 3 * n]), xp.tanh(out[1][step])
        write_dot, keep_dot, proposal_dot, show_dot = [gates_dot[..., k * n : (k + 1) * n] for k in range(4)]
        c_dot = (
            (keep * c_dot + c * keep * (1 - keep) * keep_dot)
            + proposal * write * (1 - write) * write_dot
            + write * (1 - proposal * proposal) * proposal_dot
        )
        h_dot = shown * show * (1 - show) * show_dot + show * (1 - shown * shown) * c_dot
        h, c = out[0][step], out[1][step]
        moves.append(h_dot)
        cell_moves.append(c_dot)
    return xp.stack([xp.stack(moves), xp.stack(cell_moves)])


@lstm_sequence_states.batch
def lstm_sequence_states_batch(xp: Namespace, args: tuple[Any, ...], axes: tuple[Any, ...]) -> tuple[Array, int]:
    driven, h, c, weight = [
        xp.expand_dims(value, 0) if axis is None else to_front(xp, value, axis) for value, axis in zip(args, axes)
    ]
    return _states(xp, xp.moveaxis(driven, 0, 1), h, c, weight), 2


_MOST_STEPS = 256
"""Steps beyond which they remain operations by themselves: programs of thousands are long in the making."""


@composite(
    samples=[
        Sample((3, 2, 8), (2, 2), (2, 2), (8, 2)),
        Sample((2, 4), (1,), (1,), (4, 1)),
    ]
)
def lstm_states(driven: ArrayLike, h: ArrayLike, c: ArrayLike, weight: ArrayLike) -> tuple[Any, Any]:
    """Outputs and cells of an LSTM after every step of a sequence: two arrays with an axis for the steps in front.

    Args:
        driven: what the input has to say to the gates of each step, of shape (steps, count, 4 cells), or
            (steps, 4 cells); see `lstm_step` for their order.
        h: the output before the first step, of shape (count, cells) or (cells,).
        c: the cells before it, of the same shape.
        weight: what the output of a step is multiplied by for the gates of the next one, of shape (4 cells, cells).

    Raises:
        ShapeError: shapes do not fit, or there is no step.

    >>> import wengert as wg
    >>> h, c = wg.lstm_states(wg.zeros((3, 1, 4)), wg.zeros((1, 1)), wg.ones((1, 1)), wg.zeros((4, 1)))
    >>> c.tolist()
    [[[0.5]], [[0.25]], [[0.125]]]
    """
    steps, outputs, cells, recurrent = (asarray(value) for value in (driven, h, c, weight))
    n = cells.shape[-1] if cells.ndim else 0
    fits = outputs.shape == cells.shape and recurrent.shape == (4 * n, n)
    if not cells.ndim or not fits or not steps.ndim or steps.shape[1:] != (*cells.shape[:-1], 4 * n):
        raise ShapeError(
            f"lstm_states: shapes do not fit: driven {steps.shape}, h {outputs.shape}, c {cells.shape}, weight "
            f"{recurrent.shape}; for c of shape (..., n), that of h, driven is (steps, ..., 4 n) and weight (4 n, n)"
        )
    if not len(steps):
        raise ShapeError("lstm_states: there are no steps")
    if _is_one_operation(steps, outputs, cells, recurrent):
        states = bind(lstm_sequence_states.primitive, (steps, outputs, cells, recurrent))
        return states[0], states[1]
    state = [outputs, cells]
    if capturing.engaged and (capture := capturing.current()) is not None:
        rolled = capture.steps(partial(_follow, recurrent), state, [steps], "lstm_states")
        if rolled is not None:
            return tuple(rolled[1])
    found: list[list[Any]] = []
    for step in range(len(steps)):
        state, _ = _follow(recurrent, state, [steps[step]])
        found.append(state)
    return stack([h for h, _ in found]), stack([c for _, c in found])


def _follow(recurrent: Any, state: list[Any], gates: list[Any]) -> tuple[list[Any], list[Any]]:
    """Return what a step carries on, and what it has for results: the same."""
    h, c = lstm_step(gates[0] + linear(state[0], recurrent), state[1])
    return [h, c], [h, c]


def _is_one_operation(*operands: Any) -> bool:
    """Return whether nobody follows the steps, and they are as usual."""
    dtype = operands[0].dtype
    plain = all([type(x) is boxing.Tensor and x.dtype == dtype for x in operands]) and dtype.kind == "f"
    return plain and not capturing.engaged and operands[1].ndim == 2 and len(operands[0]) <= _MOST_STEPS

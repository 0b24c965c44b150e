"""The step of an LSTM, from its gates to its state: what stands between two matrix products, as one operation."""

from __future__ import annotations

from typing import Any

from ..declare import Sample, opaque
from ..errors import ShapeError
from ..typing import Array, Namespace

__all__ = ["lstm_step"]


class _Step:
    """The activations of a step, and the products of them that its derivative is made of."""

    def __init__(self, xp: Namespace, gates: Any, c: Any) -> None:
        n = c.shape[-1]
        self.xp = xp
        self.c = c
        self.write = xp.expit(gates[..., :n])
        self.keep = xp.expit(gates[..., n : 2 * n])
        self.proposal = xp.tanh(gates[..., 2 * n : 3 * n])
        self.show = xp.expit(gates[..., 3 * n :])
        self.state = self.keep * c + self.write * self.proposal
        self.shown = xp.tanh(self.state)

    def partials(self) -> tuple[Any, Any, Any, Any]:
        """Return the derivatives of the state by the first three gates, and of the output by the last."""
        return (
            self.proposal * (self.write * (1 - self.write)),
            self.c * (self.keep * (1 - self.keep)),
            self.write * (1 - self.proposal * self.proposal),
            self.shown * (self.show * (1 - self.show)),
        )

    def through(self) -> Any:
        """Return the derivative of the output by the state."""
        return self.show * (1 - self.shown * self.shown)


@opaque(samples=[Sample((2, 12), (2, 3)), Sample((8,), (2,)), Sample((2, 1, 4), (2, 1, 1))], multiple=True)
def lstm_step(xp: Namespace, gates: Array, c: Array) -> tuple[Array, Array]:
    """Output and cell state of an LSTM (S. Hochreiter and J. Schmidhuber, 1997; with F. Gers' forget gate, 2000).

    The last axis of `gates` holds those for input, forgetting, proposal and output, in this order, before their
    activations, each as many as `c` has cells: c' = sigmoid(f) c + sigmoid(i) tanh(g), and h' = sigmoid(o) tanh(c').

    >>> import wengert as wg
    >>> h, c = wg.lstm_step(wg.zeros(4), wg.ones(1))
    >>> c.tolist()
    [0.5]
    """
    if gates.shape != (*c.shape[:-1], 4 * c.shape[-1]):
        raise ShapeError(
            f"lstm_step: for cells of shape {c.shape} gates have shape {_gates(c.shape)}, not {gates.shape}"
        )
    step = _Step(xp, gates, c)
    return step.show * step.shown, step.state


def _gates(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-1], 4 * shape[-1])


@lstm_step.vjp
def lstm_step_vjp(xp: Namespace, out_bar: tuple[Array, Array], gates: Array, c: Array) -> tuple[Array, Array]:
    h_bar, state_bar = out_bar
    step = _Step(xp, gates, c)
    total = state_bar + xp.guarded_product(step.through(), h_bar)
    by_write, by_keep, by_proposal, by_show = step.partials()
    gates_bar = xp.concatenate(
        [
            xp.guarded_product(by_write, total),
            xp.guarded_product(by_keep, total),
            xp.guarded_product(by_proposal, total),
            xp.guarded_product(by_show, h_bar),
        ],
        axis=-1,
    )
    return gates_bar, xp.guarded_product(step.keep, total)


@lstm_step.jvp
def lstm_step_jvp(xp: Namespace, gates: Array, c: Array, gates_dot: Array, c_dot: Array) -> tuple[Array, Array]:
    step = _Step(xp, gates, c)
    n = c.shape[-1]
    by_write, by_keep, by_proposal, by_show = step.partials()
    state_dot = (
        xp.guarded_product(step.keep, c_dot)
        + xp.guarded_product(by_write, gates_dot[..., :n])
        + xp.guarded_product(by_keep, gates_dot[..., n : 2 * n])
        + xp.guarded_product(by_proposal, gates_dot[..., 2 * n : 3 * n])
    )
    h_dot = xp.guarded_product(step.through(), state_dot) + xp.guarded_product(by_show, gates_dot[..., 3 * n :])
    return h_dot, state_dot


@lstm_step.batched
def lstm_step_batched(xp: Namespace, gates: Array, c: Array) -> Any:
    return lstm_step(gates, c)

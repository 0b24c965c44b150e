"""The step of an LSTM, from its gates to its state: what stands between two matrix products."""

from __future__ import annotations

from typing import Any

from ..declare import Sample, composite
from ..errors import ShapeError
from ..typing import ArrayLike
from .creation import asarray
from .hyperbolic import tanh
from .special import sigmoid

__all__ = ["lstm_step"]


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

"""LSTMs: one step, and a sequence of them."""

from __future__ import annotations

from typing import Any

import wengert as wg
from wengert import Tensor


def lstm_cell(
    x: Any, state: tuple[Any, Any], weight_ih: Any, weight_hh: Any, bias_ih: Any = None, bias_hh: Any = None
) -> tuple[Tensor, Tensor]:
    """Take one step of an LSTM (S. Hochreiter and J. Schmidhuber, 1997).

    Args:
        x: input, of shape (count, features) or (features,).
        state: the output h and the cells c of the step before, of shape (count, cells) or (cells,).
        weight_ih: matrix of shape (4 cells, features); its rows are those of input, forget, proposal and output gates.
        weight_hh: matrix of shape (4 cells, cells).
        bias_ih: vector of 4 cells.
        bias_hh: vector of 4 cells.

    Returns:
        The new h and c.

    >>> import wengert as wg
    >>> state = wg.zeros(2), wg.ones(2)
    >>> h, c = wg.nn.functional.lstm_cell(wg.ones(3), state, wg.zeros((8, 3)), wg.zeros((8, 2)))
    >>> c.tolist()
    [0.5, 0.5]
    """
    h, c = state
    gates = wg.linear(x, weight_ih, bias_ih) + wg.linear(h, weight_hh, bias_hh)
    return wg.lstm_step(gates, wg.asarray(c))


def lstm_sequence(
    x: Any,
    state: tuple[Any, Any],
    weight_ih: Any,
    weight_hh: Any,
    bias_ih: Any = None,
    bias_hh: Any = None,
    reverse: bool = False,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Take the steps of an LSTM along the first axis of x, or from its end; see `lstm_cell`.

    Returns:
        The outputs h of all steps, in the order of x, and the state after the last one.

    >>> import wengert as wg
    >>> state = wg.zeros((1, 2)), wg.zeros((1, 2))
    >>> out, (h, c) = wg.nn.functional.lstm_sequence(wg.ones((5, 1, 3)), state, wg.ones((8, 3)), wg.ones((8, 2)))
    >>> out.shape, h.shape
    ((5, 1, 2), (1, 2))
    """
    x = wg.asarray(x)
    h, c = (wg.asarray(part) for part in state)
    bias = bias_ih if bias_hh is None else bias_hh if bias_ih is None else wg.asarray(bias_ih) + bias_hh
    driven = wg.linear(x, weight_ih, bias)  # of all steps in one product
    outputs, cells = wg.lstm_states(wg.flip(driven, 0) if reverse else driven, h, c, weight_hh)
    return wg.flip(outputs, 0) if reverse else outputs, (outputs[-1], cells[-1])

"""LSTMs as layers: one step, and whole sequences through several layers."""

from __future__ import annotations

from math import sqrt
from typing import Any

import wengert as wg
from wengert import Tensor
from wengert.errors import ShapeError

from . import functional, init
from .module import Module
from .parameters import empty, extent

State = tuple[Any, Any]


def _reset(module: Module, cells: int) -> None:
    bound = 1 / sqrt(cells) if cells else 0.0
    for parameter in module.parameters():
        init.uniform_(parameter, -bound, bound)


class LSTMCell(Module):
    """One step of an LSTM (S. Hochreiter and J. Schmidhuber, 1997); see `functional.lstm_cell`.

    All parameters start uniform on +-1 / sqrt(hidden_size).

    Args:
        input_size: features of the input.
        hidden_size: number of cells.
        bias: whether there are biases.
        dtype: that of the parameters; the default dtype unless given.

    >>> import wengert as wg
    >>> h, c = wg.nn.LSTMCell(3, 4)(wg.ones((2, 3)))
    >>> h.shape, c.shape
    ((2, 4), (2, 4))
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, dtype: Any = None) -> None:
        self.input_size = extent("LSTMCell", "input_size", input_size)
        self.hidden_size = extent("LSTMCell", "hidden_size", hidden_size)
        self.weight_ih = empty((4 * hidden_size, input_size), dtype)
        self.weight_hh = empty((4 * hidden_size, hidden_size), dtype)
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, empty((4 * hidden_size,), dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        _reset(self, self.hidden_size)

    def forward(self, x: Any, state: State | None = None) -> tuple[Tensor, Tensor]:
        """Take a step from a state (h, c), zeros by default, and return the next."""
        x = wg.asarray(x)
        if state is None:
            zeros = wg.zeros((*x.shape[:-1], self.hidden_size), self.weight_ih.dtype)
            state = (zeros, zeros)
        return functional.lstm_cell(x, state, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)

    def extra_repr(self) -> str:
        """Show the sizes."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias_ih is not None else ", bias=False")


class LSTM(Module):
    """Layers of LSTMs over whole sequences, each reading what the one below it gives out.

    Parameters have PyTorch's names: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, and so on for each
    layer; with `_reverse` for those that read from the end. All start uniform on +-1 / sqrt(hidden_size).

    Args:
        input_size: features of the input.
        hidden_size: number of cells of each layer.
        num_layers: number of layers.
        bias: whether there are biases.
        batch_first: whether arrays have shape (count, length, features), not (length, count, features).
        dropout: probability of an element between layers to be dropped, in training.
        bidirectional: whether each layer reads from the end too; what both give out is put side by side.
        dtype: that of the parameters; the default dtype unless given.

    >>> import wengert as wg
    >>> out, (h, c) = wg.nn.LSTM(3, 4, num_layers=2, batch_first=True)(wg.ones((2, 5, 3)))
    >>> out.shape, h.shape
    ((2, 5, 4), (2, 2, 4))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: Any = None,
    ) -> None:
        self.input_size = extent("LSTM", "input_size", input_size)
        self.hidden_size = extent("LSTM", "hidden_size", hidden_size)
        self.num_layers = extent("LSTM", "num_layers", num_layers, least=1)
        if not 0 <= dropout <= 1:
            raise ValueError(f"LSTM: a probability lies between 0 and 1; dropout is {dropout}")
        self.batch_first = batch_first
        self.dropout = dropout
        self.bidirectional = bidirectional
        self.bias = bias
        for layer in range(num_layers):
            features = hidden_size * (1 + bidirectional) if layer else input_size
            for suffix in self._suffixes(layer):
                self.register_parameter(f"weight_ih_{suffix}", empty((4 * hidden_size, features), dtype))
                self.register_parameter(f"weight_hh_{suffix}", empty((4 * hidden_size, hidden_size), dtype))
                for name in ("bias_ih", "bias_hh"):
                    self.register_parameter(f"{name}_{suffix}", empty((4 * hidden_size,), dtype) if bias else None)
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: 1 + self.bidirectional]

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        _reset(self, self.hidden_size)

    def forward(self, x: Any, state: State | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Read sequences, from states (h, c) of shape (layers * directions, count, cells), zeros by default.

        Returns:
            The outputs h of the last layer at all positions, and the states (h, c) after the last one of each layer.
        """
        x = wg.asarray(x)
        single = x.ndim == 2
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            order = "count, length" if self.batch_first else "length, count"
            raise ShapeError(
                f"LSTM: x has shape {x.shape}; it must be ({order}, {self.input_size}), or (length, {self.input_size}) "
                "for one sequence alone"
            )
        if single:
            x = wg.expand_dims(x, 1)
        elif self.batch_first:
            x = wg.swapaxes(x, 0, 1)
        if not len(x):
            raise ShapeError("LSTM: the sequences have no elements")
        out, h, c = self._layers(x, self._states(x, state, single))
        if single:
            return out[:, 0], (h[:, 0], c[:, 0])
        return wg.swapaxes(out, 0, 1) if self.batch_first else out, (h, c)

    def _states(self, x: Tensor, state: State | None, single: bool) -> tuple[Tensor, Tensor]:
        shape = (self.num_layers * (1 + self.bidirectional), x.shape[1], self.hidden_size)
        if state is None:
            zeros = wg.zeros(shape, x.dtype)
            return zeros, zeros
        h, c = (wg.expand_dims(part, 1) if single else wg.asarray(part) for part in state)
        if h.shape != shape or c.shape != shape:
            raise ShapeError(f"LSTM: h and c have shapes {h.shape} and {c.shape}; they must be {shape}")
        return h, c

    def _layers(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        ends: list[tuple[Tensor, Tensor]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = functional.dropout(x, self.dropout, self.training)
            outputs: list[Tensor] = []
            for suffix in self._suffixes(layer):
                place = len(ends)
                parameters = [getattr(self, f"{n}_{suffix}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
                start = state[0][place], state[1][place]
                out, end = functional.lstm_sequence(x, start, *parameters, reverse=suffix.endswith("reverse"))
                outputs.append(out)
                ends.append(end)
            x = wg.concatenate(outputs, -1) if self.bidirectional else outputs[0]
        return x, wg.stack([h for h, _ in ends]), wg.stack([c for _, c in ends])

    def extra_repr(self) -> str:
        """Show the sizes and settings."""
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, batch_first={self.batch_first}, "
            f"bidirectional={self.bidirectional}"
        )

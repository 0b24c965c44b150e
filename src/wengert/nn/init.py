"""First values of parameters. Each function overwrites a Tensor in place, off the tape, and returns it.

Random ones take a `generator`, a `wg.random.Generator`; by default they draw from `wg.random`'s own.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any

import numpy as np

from wengert import Tensor, random
from wengert.errors import ShapeError

Source = random.Generator | None

_GAINS = {
    "linear": 1.0,
    "identity": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": sqrt(2.0),
    "gelu": sqrt(2.0),
    "selu": 0.75,
}


def _fill(tensor: Tensor, values: Any) -> Tensor:
    raw = values._raw() if isinstance(values, Tensor) else values

    def write(array: np.ndarray) -> None:
        array[...] = raw

    tensor.update_buffer(write)
    return tensor


def _drawn(tensor: Tensor, generator: Source, draw: Callable[[random.Generator, Any, Any], Tensor]) -> Tensor:
    return _fill(tensor, draw(generator or random.default_generator, tensor.shape, tensor.dtype))


def constant_(tensor: Tensor, value: float) -> Tensor:
    """Fill with one value."""
    return _fill(tensor, value)


def zeros_(tensor: Tensor) -> Tensor:
    """Fill with zeros.

    >>> import wengert as wg
    >>> wg.nn.init.zeros_(wg.ones(2)).tolist()
    [0.0, 0.0]
    """
    return _fill(tensor, 0)


def ones_(tensor: Tensor) -> Tensor:
    """Fill with ones."""
    return _fill(tensor, 1)


def eye_(tensor: Tensor) -> Tensor:
    """Fill a matrix with the identity."""
    if tensor.ndim != 2:
        raise ShapeError(f"init.eye_: the identity is a matrix, and the Tensor has shape {tensor.shape}")
    return _fill(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Source = None) -> Tensor:
    """Draw from the uniform distribution on [a, b)."""

    def draw(source: random.Generator, shape: Any, dtype: Any) -> Tensor:
        return source.uniform(a, b, shape, dtype)

    return _drawn(tensor, generator, draw)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Source = None) -> Tensor:
    """Draw from the normal distribution."""

    def draw(source: random.Generator, shape: Any, dtype: Any) -> Tensor:
        return source.normal(mean, std, shape, dtype)

    return _drawn(tensor, generator, draw)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Source = None
) -> Tensor:
    """Draw from the normal distribution, restricted to [a, b], by inverting its distribution function.

    >>> import wengert as wg
    >>> bool((abs(wg.nn.init.trunc_normal_(wg.empty(100)).numpy()) <= 2).all())
    True
    """
    from scipy.special import ndtr, ndtri

    if std <= 0 or a >= b:
        raise ValueError(f"init.trunc_normal_: std > 0 and a < b are needed, not std={std}, a={a}, b={b}")
    low, high = ndtr((a - mean) / std), ndtr((b - mean) / std)
    if high <= low:
        raise ValueError(f"init.trunc_normal_: [{a}, {b}] lies too far out in the tail of a normal({mean}, {std})")

    def draw(source: random.Generator, shape: Any, dtype: Any) -> Any:
        levels = source.uniform(low, high, shape, np.float64).numpy()
        return np.clip(ndtri(levels) * std + mean, a, b)

    return _drawn(tensor, generator, draw)


def calculate_gain(nonlinearity: str, slope: float | None = None) -> float:
    """Return the factor by which a nonlinearity's input must be larger for its output to keep its variance.

    >>> import wengert as wg
    >>> wg.nn.init.calculate_gain("tanh")
    1.6666666666666667
    """
    if nonlinearity == "leaky_relu":
        return sqrt(2.0 / (1 + (0.01 if slope is None else slope) ** 2))
    if nonlinearity not in _GAINS:
        raise ValueError(
            f"init: no gain is known for {nonlinearity!r}; known are {', '.join(sorted([*_GAINS, 'leaky_relu']))}"
        )
    return _GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """Return (inputs, outputs) of each unit of a weight of shape (outputs, inputs, *kernel).

    Raises:
        ShapeError: the Tensor has fewer than two axes.
    """
    if tensor.ndim < 2:
        raise ShapeError(
            f"init: fan in and fan out are known for weights of two axes and more, not of shape {tensor.shape}"
        )
    receptive = prod(tensor.shape[2:])
    return tensor.shape[1] * receptive, tensor.shape[0] * receptive


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Source = None) -> Tensor:
    """Uniform on +-gain sqrt(6 / (fan_in + fan_out)).

    X. Glorot and Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010),
    equation 16.
    """
    bound = gain * sqrt(6.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Source = None) -> Tensor:
    """Normal of variance gain^2 * 2 / (fan_in + fan_out): the same paper, equation 12."""
    return normal_(tensor, 0.0, gain * sqrt(2.0 / sum(fans(tensor))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f'init: mode is "fan_in" or "fan_out", not {mode!r}')
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / sqrt(fan) if fan else 0.0


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Source = None,
) -> Tensor:
    """Uniform with variance gain^2 / fan.

    K. He et al., "Delving Deep into Rectifiers" (2015), equations 10 (fan_in) and 14 (fan_out), with the gain of
    equation 15 for a leaky ReLU of slope `a`.

    Args:
        tensor: weight of shape (outputs, inputs, *kernel).
        a: slope of the leaky ReLU that follows.
        mode: "fan_in" keeps the variance of activations, "fan_out" that of gradients.
        nonlinearity: what follows; see `calculate_gain`.
        generator: where the random numbers come from.
    """
    bound = sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Source = None,
) -> Tensor:
    """Normal with variance gain^2 / fan: the same paper; see `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Source = None) -> Tensor:
    """Fill with a (semi-)orthogonal matrix, drawn uniformly: rows, or columns if there are fewer, are orthonormal.

    A. M. Saxe, J. L. McClelland and S. Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks" (2014). The signs of R make the QR decomposition unique, and with it the draw uniform (F. Mezzadri,
    "How to generate random matrices from the classical compact groups", 2007, section 5).

    >>> import numpy as np, wengert as wg
    >>> q = wg.nn.init.orthogonal_(wg.empty((2, 3))).numpy()
    >>> bool(np.allclose(q @ q.T, np.eye(2), atol=1e-6))
    True
    """
    if tensor.ndim < 2:
        raise ShapeError(f"init.orthogonal_: a matrix is needed, and the Tensor has shape {tensor.shape}")
    rows, columns = tensor.shape[0], prod(tensor.shape[1:])

    def draw(source: random.Generator, shape: Any, dtype: Any) -> Any:
        square = source.standard_normal((max(rows, columns), min(rows, columns)), np.float64).numpy()
        q, r = np.linalg.qr(square)
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return gain * (q.T if rows < columns else q).reshape(shape)

    return _drawn(tensor, generator, draw)


glorot_uniform_ = xavier_uniform_
glorot_normal_ = xavier_normal_
he_uniform_ = kaiming_uniform_
he_normal_ = kaiming_normal_

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "fans",
    "glorot_normal_",
    "glorot_uniform_",
    "he_normal_",
    "he_uniform_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]

"""Activations that have a parameter, made of the library's operations; the others are operations themselves."""

from __future__ import annotations

from typing import Any

import wengert as wg
from wengert import Tensor


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit x * Phi(x) (D. Hendrycks and K. Gimpel, 2016).

    Args:
        x: array of any shape.
        approximate: "none" for the normal distribution function itself, "tanh" for the paper's approximation of it.

    >>> import wengert as wg
    >>> wg.nn.functional.gelu(wg.tensor([0.0]), approximate="tanh").tolist()
    [0.0]
    """
    if approximate == "none":
        return wg.gelu(x)
    if approximate == "tanh":
        return wg.gelu_tanh(x)
    raise ValueError(f'gelu: approximate is "none" or "tanh", not {approximate!r}')


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where it is positive, else negative_slope * x (A. L. Maas, A. Y. Hannun and A. Y. Ng, 2013).

    The derivative at zero is `negative_slope`.

    >>> import wengert as wg
    >>> wg.nn.functional.leaky_relu(wg.tensor([-2.0, 3.0]), 0.5).tolist()
    [-1.0, 3.0]
    """
    x = wg.asarray(x)
    return wg.where(x > 0, x, x * negative_slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where it is positive, else alpha * (exp(x) - 1) (D.-A. Clevert, T. Unterthiner and S. Hochreiter, 2016).

    The derivative at zero is `alpha`.

    >>> import wengert as wg
    >>> wg.nn.functional.elu(wg.tensor([0.0, 3.0])).tolist()
    [0.0, 3.0]
    """
    x = wg.asarray(x)
    positive = x > 0
    # What is not chosen is kept small: the exponential of a large x would warn of an overflow that nobody sees.
    return wg.where(positive, x, wg.expm1(wg.where(positive, 0.0, x)) * alpha)


def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, a smooth relu (C. Dugas et al., 2001); no overflow for any x.

    >>> import wengert as wg
    >>> wg.nn.functional.softplus(wg.tensor([1000.0])).tolist()
    [1000.0]
    """
    if beta == 1:
        return wg.softplus(x)
    if beta <= 0:
        raise ValueError(f"softplus: beta must be positive, and it is {beta}")
    return wg.softplus(wg.asarray(x) * beta) / beta

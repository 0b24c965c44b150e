"""Special functions, and the activations of neural networks, which are made of them."""

from __future__ import annotations

import math

from ..declare import Sample, at, elementwise
from ..typing import Array, Namespace

__all__ = [
    "digamma",
    "erf",
    "erfc",
    "erfinv",
    "expit",
    "gammaln",
    "gelu",
    "gelu_tanh",
    "lgamma",
    "log_expit",
    "log_sigmoid",
    "logit",
    "ndtr",
    "polygamma",
    "relu",
    "sigmoid",
    "silu",
    "softplus",
    "swish",
]

_ERF_SLOPE = 2.0 / math.sqrt(math.pi)
_NORMAL_PEAK = 1.0 / math.sqrt(2.0 * math.pi)
_TANH_LINEAR = 2.0 * math.sqrt(2.0 / math.pi)
_TANH_CUBIC = 0.044715 * _TANH_LINEAR
_EULER = 0.5772156649015329


@elementwise(
    reference="scipy.special.erf",
    special=[at(0.0, out=0.0, partials=(_ERF_SLOPE,)), at(math.inf, out=1.0, partials=(0.0,))],
)
def erf(xp: Namespace, x: Array) -> Array:
    """Error function of each element.

    >>> import wengert as wg
    >>> wg.erf(wg.tensor([0.0, float("inf")])).tolist()
    [0.0, 1.0]
    """
    return xp.erf(x)


@erf.partials
def erf_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (_ERF_SLOPE * xp.exp(-x * x),)


@elementwise(
    reference="scipy.special.erfc",
    special=[at(0.0, out=1.0, partials=(-_ERF_SLOPE,)), at(math.inf, out=0.0, partials=(0.0,))],
)
def erfc(xp: Namespace, x: Array) -> Array:
    """Complementary error function 1 - erf(x) of each element, accurate for large x.

    >>> import wengert as wg
    >>> wg.erfc(wg.tensor([0.0, float("inf")])).tolist()
    [1.0, 0.0]
    """
    return xp.erfc(x)


@erfc.partials
def erfc_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (-_ERF_SLOPE * xp.exp(-x * x),)


@elementwise(
    domain=(-0.9, 0.9),
    reference="scipy.special.erfinv",
    singular=True,
    special=[
        at(0.0, out=0.0, partials=(1 / _ERF_SLOPE,)),
        at(1.0, out=math.inf, partials=(math.inf,)),
        at(-1.0, out=-math.inf, partials=(math.inf,)),
    ],
)
def erfinv(xp: Namespace, x: Array) -> Array:
    """Inverse of the error function; infinite at one and minus one, and its derivative too.

    >>> import wengert as wg
    >>> wg.erfinv(wg.tensor([0.0, 1.0])).tolist()
    [0.0, inf]
    """
    return xp.erfinv(x)


@erfinv.partials
def erfinv_partials(xp: Namespace, out: Array) -> tuple[Array, ...]:
    return ((1 / _ERF_SLOPE) * xp.exp(out * out),)


@elementwise(
    reference="scipy.special.ndtr",
    special=[at(0.0, out=0.5, partials=(_NORMAL_PEAK,)), at(-math.inf, out=0.0, partials=(0.0,))],
)
def ndtr(xp: Namespace, x: Array) -> Array:
    """Cumulative distribution function of the standard normal distribution, accurate in the lower tail.

    >>> import wengert as wg
    >>> wg.ndtr(wg.tensor([0.0, float("inf")])).tolist()
    [0.5, 1.0]
    """
    return xp.ndtr(x)


@ndtr.partials
def ndtr_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (_normal_density(xp, x),)


def _normal_density(xp: Namespace, x: Array) -> Array:
    return _NORMAL_PEAK * xp.exp((-0.5 * x) * x)


@elementwise(
    domain=(0.3, 4.0),
    reference="scipy.special.gammaln",
    singular=True,
    special=[
        at(0.0, out=math.inf, partials=(-math.inf,)),
        at(1.0, out=0.0, partials=(-_EULER,)),
        at(2.0, out=0.0, partials=(1 - _EULER,)),
        at(-1.0, out=math.inf, partials=(math.nan,)),
    ],
)
def gammaln(xp: Namespace, x: Array) -> Array:
    """Logarithm of the absolute value of the gamma function; infinite at zero and the negative integers.

    The derivative at zero is minus infinity, that from the right; at the negative integers it is NaN.

    >>> import wengert as wg
    >>> wg.gammaln(wg.tensor([1.0, 2.0])).tolist()
    [0.0, 0.0]
    """
    return xp.gammaln(x)


@gammaln.partials
def gammaln_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.digamma(x),)


@elementwise(
    domain=(0.5, 4.0),
    reference="scipy.special.digamma",
    singular=True,
    special=[
        at(0.0, out=-math.inf, partials=(math.inf,)),
        at(1.0, out=-_EULER, partials=(math.pi**2 / 6,)),
        at(-1.0, out=math.nan, partials=(math.inf,)),
    ],
)
def digamma(xp: Namespace, x: Array) -> Array:
    """Derivative of the logarithm of the gamma function; NaN at the negative integers, with infinite derivative.

    >>> import wengert as wg
    >>> wg.digamma(wg.tensor(0.0)).item()
    -inf
    """
    return xp.digamma(x)


@digamma.partials
def digamma_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.polygamma(1, x),)


@elementwise(
    reference="scipy.special.polygamma",
    fixed=("n",),
    singular=True,
    samples=[Sample(n, shape, interval=(0.3, 4.0)) for n, shape in ((0, (2, 3)), (1, (2, 3)), (2, (3,)), (3, ()))],
)
def polygamma(xp: Namespace, n: Array, x: Array) -> Array:
    """The n-th derivative of the digamma function, for a whole number n; infinite at zero and the negative integers.

    >>> import wengert as wg
    >>> wg.polygamma(1, wg.tensor(0.0)).item()
    inf
    """
    return xp.polygamma(n, x)


@polygamma.partial("x")
def polygamma_partial_x(xp: Namespace, n: Array, x: Array) -> Array:
    return xp.polygamma(n + 1, x)


@elementwise(
    reference="scipy.special.expit",
    special=[
        at(0.0, out=0.5, partials=(0.25,)),
        at(40.0, out=1.0, partials=(4.248354255291589e-18,)),
        at(-80.0, out=1.8048513878454153e-35, partials=(1.8048513878454153e-35,)),
        at(1000.0, out=1.0, partials=(0.0,)),
        at(-math.inf, out=0.0, partials=(0.0,)),
    ],
)
def sigmoid(xp: Namespace, x: Array) -> Array:
    """Logistic function 1 / (1 + exp(-x)) of each element, accurate in both tails, and so is its derivative.

    >>> import wengert as wg
    >>> wg.sigmoid(wg.tensor([0.0, float("inf")])).tolist()
    [0.5, 1.0]
    """
    return xp.expit(x)


@sigmoid.partials
def sigmoid_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.sigmoid_slope(x),)  # out (1 - out) would lose the upper tail


@elementwise(
    special=[
        at(0.0, out=0.25, partials=(0.0,)),
        at(40.0, out=4.248354255291589e-18, partials=(-4.248354255291589e-18,)),
        at(-80.0, out=1.8048513878454153e-35, partials=(1.8048513878454153e-35,)),
        at(1000.0, out=0.0, partials=(0.0,)),
        at(-math.inf, out=0.0, partials=(0.0,)),
    ],
)
def sigmoid_slope(xp: Namespace, x: Array) -> Array:
    """sigmoid(x) sigmoid(-x) of each element, accurate in both tails: the derivative of the sigmoid.

    >>> import wengert as wg
    >>> wg.ops.sigmoid_slope(wg.tensor([0.0, float("inf")])).tolist()
    [0.25, 0.0]
    """
    return xp.sigmoid_slope(x)


@sigmoid_slope.partials
def sigmoid_slope_partials(xp: Namespace, x: Array, out: Array) -> tuple[Array, ...]:
    return (-out * xp.tanh(0.5 * x),)


@elementwise(
    domain=(0.05, 0.95),
    reference="scipy.special.logit",
    singular=True,
    special=[
        at(0.5, out=0.0, partials=(4.0,)),
        at(0.0, out=-math.inf, partials=(math.inf,)),
        at(1.0, out=math.inf, partials=(math.inf,)),
    ],
)
def logit(xp: Namespace, x: Array) -> Array:
    """log(x / (1 - x)), the inverse of the sigmoid; infinite at zero and one, and its derivative too.

    >>> import wengert as wg
    >>> wg.logit(wg.tensor([0.5, 1.0])).tolist()
    [0.0, inf]
    """
    return xp.logit(x)


@logit.partials
def logit_partials(x: Array) -> tuple[Array, ...]:
    return (1 / (x * (1 - x)),)


@elementwise(
    reference=None,
    special=[
        at(0.0, out=math.log(2.0), partials=(0.5,)),
        at(-80.0, out=1.8048513878454153e-35, partials=(1.8048513878454153e-35,)),
        at(1000.0, out=1000.0, partials=(1.0,)),
        at(-math.inf, out=0.0, partials=(0.0,)),
        at(math.inf, out=math.inf, partials=(1.0,)),
    ],
)
def softplus(xp: Namespace, x: Array) -> Array:
    """log(1 + exp(x)) of each element, without overflow.

    >>> import wengert as wg
    >>> wg.softplus(wg.tensor([1000.0, -1000.0])).tolist()
    [1000.0, 0.0]
    """
    return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.absolute(x)))


@softplus.partials
def softplus_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.expit(x),)


@elementwise(
    reference="scipy.special.log_expit",
    special=[
        at(0.0, out=-math.log(2.0), partials=(0.5,)),
        at(80.0, out=-1.8048513878454153e-35, partials=(1.8048513878454153e-35,)),
        at(-1000.0, out=-1000.0, partials=(1.0,)),
        at(math.inf, out=0.0, partials=(0.0,)),
        at(-math.inf, out=-math.inf, partials=(1.0,)),
    ],
)
def log_sigmoid(xp: Namespace, x: Array) -> Array:
    """Logarithm of the sigmoid of each element, without overflow.

    >>> import wengert as wg
    >>> wg.log_sigmoid(wg.tensor([1000.0, -1000.0])).tolist()
    [0.0, -1000.0]
    """
    return xp.minimum(x, 0) - xp.log1p(xp.exp(-xp.absolute(x)))


@log_sigmoid.partials
def log_sigmoid_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.expit(-x),)


@elementwise(
    masks=True,
    special=[
        at(0.0, out=0.0, partials=(0.0,)),
        at(-math.inf, out=0.0, partials=(0.0,)),
        at(math.inf, out=math.inf, partials=(1.0,)),
        at(math.nan, out=math.nan, partials=(math.nan,)),
    ],
)
def relu(xp: Namespace, x: Array) -> Array:
    """Each element where it is positive, else zero; the derivative at zero is zero, and at NaN it is NaN.

    >>> import wengert as wg
    >>> wg.relu(wg.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return xp.maximum(x, 0)


@relu.partials
def relu_partials(xp: Namespace, out: Array) -> tuple[Array, ...]:
    return (xp.sign(out),)


@elementwise(
    domain=(-3.0, 3.0),
    special=[
        at(0.0, out=0.0, partials=(0.5,)),
        at(40.0, out=40.0, partials=(1.0,)),
        at(-1000.0, out=0.0, partials=(0.0,)),
    ],
)
def gelu(xp: Namespace, x: Array) -> Array:
    """x times the normal distribution function of x, with small relative error in the lower tail too.

    Gaussian error linear unit (Hendrycks and Gimpel, 2016); NaN at minus infinity.

    >>> import wengert as wg
    >>> wg.gelu(wg.tensor([0.0, 10.0])).tolist()
    [0.0, 10.0]
    """
    return x * xp.ndtr(x)


@gelu.partials
def gelu_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.ndtr(x) + x * _normal_density(xp, x),)


@elementwise(
    domain=(-3.0, 3.0),
    special=[
        at(0.0, out=0.0, partials=(0.5,)),
        at(40.0, out=40.0, partials=(1.0,)),
        at(-1000.0, out=0.0, partials=(0.0,)),
    ],
)
def gelu_tanh(xp: Namespace, x: Array) -> Array:
    """Approximation of gelu by a hyperbolic tangent: x (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))) / 2.

    >>> import wengert as wg
    >>> wg.gelu_tanh(wg.tensor([0.0, 10.0])).tolist()
    [0.0, 10.0]
    """
    return x * xp.expit(x * (_TANH_LINEAR + (_TANH_CUBIC * x) * x))  # the same: (1 + tanh(u)) / 2 = sigmoid(2 u)


@gelu_tanh.partials
def gelu_tanh_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    cubic = (_TANH_CUBIC * x) * x
    angle = x * (_TANH_LINEAR + cubic)
    return (xp.expit(angle) + xp.sigmoid_slope(angle) * (x * (_TANH_LINEAR + 3 * cubic)),)


@elementwise(
    domain=(-3.0, 3.0),
    special=[
        at(0.0, out=0.0, partials=(0.5,)),
        at(-80.0, out=-1.4438811102763322e-33, partials=(-1.4258325963978783e-33,)),
        at(40.0, out=40.0, partials=(1.0,)),
        at(-1000.0, out=0.0, partials=(0.0,)),
    ],
)
def silu(xp: Namespace, x: Array) -> Array:
    """x times the sigmoid of x, also called swish; NaN at minus infinity.

    >>> import wengert as wg
    >>> wg.silu(wg.tensor([0.0, 100.0])).tolist()
    [0.0, 100.0]
    """
    return x * xp.expit(x)


@silu.partials
def silu_partials(xp: Namespace, x: Array) -> tuple[Array, ...]:
    return (xp.expit(x) + x * xp.sigmoid_slope(x),)


expit = sigmoid
lgamma = gammaln
log_expit = log_sigmoid
swish = silu

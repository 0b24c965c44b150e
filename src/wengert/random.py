"""Random numbers, seeded and reproducible bit for bit.

One generator serves the module's functions, as in NumPy's older interface; `Generator` makes others, whose streams do
not depend on it. The bits come from PCG64 (M. E. O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically
Good Algorithms for Random Number Generation", 2014) through `numpy.random.Generator`: the same seed gives the same
numbers in every process that runs the same NumPy.

Samples have the default dtype (float32 unless changed). Where a distribution's parameters are tracked Tensors, the
sample is computed from them and from noise that does not depend on them, so that gradients pass: the
reparametrisation of D. P. Kingma and M. Welling, "Auto-Encoding Variational Bayes" (2014), section 2.4.

Inside of `vmap`, its `randomness` says whether every example gets numbers of its own.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from . import ops
from .config import settings
from .core import boxing, capturing, streams
from .core.batching import drawn
from .errors import DTypeError, ShapeError
from .typing import ArrayLike, DTypeLike, Shape

_WORD = 2**64
_STATE_WORDS = 6


def _shape_of(size: int | Shape | None, *parameters: Any) -> Shape:
    """Return the shape of a sample: the one asked for, which must hold the parameters', or theirs."""
    natural = np.broadcast_shapes(*[p.shape if hasattr(p, "shape") else np.shape(p) for p in parameters])
    if size is None:
        return natural
    try:
        shape = (operator.index(size),)  # type: ignore[arg-type]
    except TypeError:
        shape = tuple(operator.index(n) for n in size)  # type: ignore[union-attr]
    if any(n < 0 for n in shape):
        raise ShapeError(f"random: the shape {shape} has a negative extent")
    try:
        fits = np.broadcast_shapes(shape, natural) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"random: parameters of shape {natural} do not broadcast to the shape {shape} of the sample")
    return shape


def _dtype_of(dtype: DTypeLike, *parameters: Any) -> np.dtype[Any]:
    """Return the dtype of a floating sample: the one asked for, that of the parameters, or the default."""
    if dtype is not None:
        resolved = np.dtype(dtype)
        if resolved.kind != "f":
            raise DTypeError(f"random: samples of this distribution are real floating numbers, not {resolved}")
        return resolved
    known = [p.dtype for p in parameters if hasattr(p, "dtype") and p.dtype.kind == "f"]
    return np.result_type(*known) if known else settings.default_dtype


def _is_number(*parameters: Any) -> bool:
    return all(isinstance(p, (int, float)) for p in parameters)


class Generator:
    """A stream of random numbers of its own.

    Args:
        seed: a non-negative integer, or a sequence of them; None takes fresh entropy from the operating system.

    >>> import wengert as wg
    >>> rng = wg.random.Generator(7)
    >>> rng.normal(size=2).shape, rng.normal(size=2).dtype
    ((2,), dtype('float32'))
    """

    __slots__ = ("__weakref__", "_source")
    _source: np.random.Generator

    def __init__(self, seed: int | list[int] | tuple[int, ...] | None = None) -> None:
        self.seed(seed)
        streams.register(self)

    def seed(self, seed: int | list[int] | tuple[int, ...] | None = None) -> None:
        """Start the stream again, from a seed.

        Raises:
            ValueError: the seed is not a non-negative integer or a sequence of them.

        >>> import wengert as wg
        >>> wg.random.seed(0); first = wg.random.rand(3)
        >>> wg.random.seed(0); bool((wg.random.rand(3).numpy() == first.numpy()).all())
        True
        """
        try:
            sequence = np.random.SeedSequence(seed)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"random.seed: a seed is a non-negative integer or a sequence of them, not {seed!r}"
            ) from error
        bits = np.random.PCG64(sequence)
        if hasattr(self, "_source"):
            # In place: a compiled function that draws goes on with the same object.
            capturing.note_unrepeatable("seeds a random generator")
            self._source.bit_generator.state = bits.state
        else:
            self._source = np.random.Generator(bits)

    def __repr__(self) -> str:
        return f"Generator({type(self._source.bit_generator).__name__} at {id(self):#x})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.get_state().numpy(),)

    # ------------------------------------------------------------------ the state

    def get_state(self) -> Any:
        """Return all of the state as a Tensor of six 64-bit words, which `wg.io.save` can keep.

        >>> import wengert as wg
        >>> state = wg.random.get_state(); first = wg.random.rand().item()
        >>> wg.random.set_state(state); wg.random.rand().item() == first
        True
        """
        capturing.note_unrepeatable("asks for the state of a random generator")
        state: dict[str, Any] = dict(self._source.bit_generator.state)
        counter, increment = state["state"]["state"], state["state"]["inc"]
        words = [*divmod(counter, _WORD), *divmod(increment, _WORD), state["has_uint32"], state["uinteger"]]
        return boxing.box(np.array(words, np.uint64))

    def set_state(self, state: ArrayLike) -> None:
        """Continue from where `get_state` was called.

        Raises:
            ValueError: this is not what `get_state` returned; the stream goes on as if nothing had been asked.
        """
        array = np.asarray(state)
        if array.shape != (_STATE_WORDS,) or array.dtype != np.uint64:
            raise ValueError(
                f"random.set_state: a state is {_STATE_WORDS} words of uint64, as get_state returns, "
                f"not an array of shape {array.shape} and dtype {array.dtype}"
            )
        high, low, increment_high, increment_low, has_half, half = (int(word) for word in array)
        if not increment_low & 1 or has_half > 1 or half >= 2**32:
            raise ValueError("random.set_state: these words are not a state of PCG64")
        capturing.note_unrepeatable("sets the state of a random generator")
        self._source.bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": high * _WORD + low, "inc": increment_high * _WORD + increment_low},
            "has_uint32": has_half,
            "uinteger": half,
        }

    # ------------------------------------------------------------------ noise: what every other method starts from

    def _noise(self, kind: Any, shape: Shape, dtype: np.dtype[Any]) -> Any:
        """Draw from one of NumPy's standard distributions, in the nearest precision that it can draw in."""
        precision = np.float32 if dtype.itemsize <= np.float32().itemsize else np.float64

        def draw(shape: Shape) -> np.ndarray:
            return np.asarray(kind(shape, precision)).astype(dtype, copy=False)

        return drawn(draw, shape)

    def standard_normal(self, size: int | Shape | None = None, dtype: DTypeLike = None) -> Any:
        """Draw from the normal distribution of mean 0 and variance 1.

        >>> import wengert as wg
        >>> wg.random.standard_normal((2, 3)).shape
        (2, 3)
        """
        return self._noise(self._source.standard_normal, _shape_of(size, 0.0), _dtype_of(dtype))

    def random(self, size: int | Shape | None = None, dtype: DTypeLike = None) -> Any:
        """Draw from the uniform distribution on [0, 1)."""
        return self._noise(self._source.random, _shape_of(size, 0.0), _dtype_of(dtype))

    def standard_exponential(self, size: int | Shape | None = None, dtype: DTypeLike = None) -> Any:
        """Draw from the exponential distribution of mean 1."""
        return self._noise(self._source.standard_exponential, _shape_of(size, 0.0), _dtype_of(dtype))

    def randn(self, *shape: int, dtype: DTypeLike = None) -> Any:
        """Draw from the standard normal distribution; the shape is given as separate integers or as one tuple."""
        return self.standard_normal(_unpacked(shape), dtype)

    def rand(self, *shape: int, dtype: DTypeLike = None) -> Any:
        """Draw from the uniform distribution on [0, 1); the shape is given as separate integers or as one tuple."""
        return self.random(_unpacked(shape), dtype)

    # ------------------------------------------------------------------ continuous distributions, reparametrised

    def normal(
        self, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0, size: int | Shape | None = None, dtype: DTypeLike = None
    ) -> Any:
        """Draw `loc + scale * noise` from the normal distribution; gradients pass to `loc` and `scale`.

        >>> import wengert as wg
        >>> mean = wg.tensor([0.0, 10.0], requires_grad=True)
        >>> wg.random.normal(mean, 0.1).sum().backward(); mean.grad.tolist()
        [1.0, 1.0]
        """
        return self._located(self._source.standard_normal, loc, scale, size, dtype)

    def uniform(
        self, low: ArrayLike = 0.0, high: ArrayLike = 1.0, size: int | Shape | None = None, dtype: DTypeLike = None
    ) -> Any:
        """Draw `low + (high - low) * noise` from the uniform distribution on [low, high); gradients pass to both."""
        width = high - low if _is_number(low, high) else ops.asarray(high) - ops.asarray(low)
        return self._located(self._source.random, low, width, size, dtype)

    def exponential(self, scale: ArrayLike = 1.0, size: int | Shape | None = None, dtype: DTypeLike = None) -> Any:
        """Draw `scale * noise` from the exponential distribution of that mean; gradients pass to `scale`."""
        return self._located(self._source.standard_exponential, 0.0, scale, size, dtype)

    def gumbel(
        self, loc: ArrayLike = 0.0, scale: ArrayLike = 1.0, size: int | Shape | None = None, dtype: DTypeLike = None
    ) -> Any:
        """Draw `loc + scale * noise` from the Gumbel distribution; gradients pass to `loc` and `scale`."""
        return self._located(self._standard_gumbel, loc, scale, size, dtype)

    def _standard_gumbel(self, shape: Shape, dtype: DTypeLike) -> np.ndarray:
        tiny = np.finfo(np.dtype(dtype)).tiny
        return -np.log(np.maximum(self._source.standard_exponential(shape, dtype), tiny))  # type: ignore[call-overload]

    def _located(self, kind: Any, loc: ArrayLike, scale: ArrayLike, size: int | Shape | None, dtype: DTypeLike) -> Any:
        loc, scale = (p if _is_number(p) else ops.asarray(p) for p in (loc, scale))
        if _is_number(scale) and scale < 0:
            raise ValueError(f"random: the scale of a distribution cannot be negative, and this is {scale}")
        noise = self._noise(kind, _shape_of(size, loc, scale), _dtype_of(dtype, loc, scale))
        if not _is_number(loc, scale):
            return ops.asarray(noise * scale + loc, dtype)
        if scale != 1:
            noise *= scale
        if loc != 0:
            noise += loc
        return noise

    # ------------------------------------------------------------------ discrete distributions

    def integers(
        self,
        low: int,
        high: int | None = None,
        size: int | Shape | None = None,
        dtype: DTypeLike = np.int64,
        endpoint: bool = False,
    ) -> Any:
        """Draw integers from [low, high), or from [0, low) if `high` is left out; `endpoint` includes the upper bound.

        >>> import wengert as wg
        >>> wg.random.integers(1, 7, size=100).shape
        (100,)
        """

        def draw(shape: Shape) -> np.ndarray:
            return np.asarray(self._source.integers(low, high, shape, dtype=np.dtype(dtype), endpoint=endpoint))  # type: ignore[arg-type]

        try:
            return drawn(draw, _shape_of(size, 0))
        except ValueError as error:
            bounds = f"[0, {low})" if high is None else f"[{low}, {high}{']' if endpoint else ')'}"
            raise ValueError(f"random.integers: there is no {np.dtype(dtype)} to draw in {bounds}: {error}") from None

    def randint(self, low: int, high: int | None = None, size: int | Shape | None = None) -> Any:
        """Draw integers from [low, high), or from [0, low) if `high` is left out."""
        return self.integers(low, high, size)

    def bernoulli(self, p: ArrayLike = 0.5, size: int | Shape | None = None) -> Any:
        """Draw booleans that are true with probability `p`; no gradient passes.

        >>> import wengert as wg
        >>> wg.random.bernoulli(1.0, size=2).tolist()
        [True, True]
        """
        chance = p if _is_number(p) else ops.detach(p)
        capturing.examine(chance, _check_chances)
        return self._noise(self._source.random, _shape_of(size, chance), np.dtype(np.float32)) < chance

    def categorical(self, logits: ArrayLike, axis: int = -1) -> Any:
        """Draw indices along an axis with probabilities softmax(logits), by the Gumbel-max trick: no gradient."""
        scores = ops.detach(logits)
        noise = self._noise(self._standard_gumbel, scores.shape, _dtype_of(None, scores))
        return ops.argmax(scores + noise, axis=axis)

    # ------------------------------------------------------------------ arrangements

    def permutation(self, x: ArrayLike) -> Any:
        """Return the integers below `x` in random order, or the rows of an array `x` in random order (on the tape).

        >>> import wengert as wg
        >>> sorted(wg.random.permutation(4).tolist())
        [0, 1, 2, 3]
        """
        if isinstance(x, (int, np.integer)):
            return self._order(int(x))
        rows = ops.asarray(x)
        return rows[self._order(rows.shape[0])] if rows.ndim else self._order(int(rows))

    def _order(self, count: int) -> Any:
        """Draw an order of so many things."""

        def draw(shape: Shape) -> np.ndarray:
            if len(shape) == 1:
                return self._source.permutation(count)
            return self._source.permuted(np.broadcast_to(np.arange(count), shape), axis=-1)

        return drawn(draw, (count,))

    def shuffle(self, x: Any) -> None:
        """Put the rows of a Tensor, or the items of an array or list, into random order, in place."""
        if isinstance(x, boxing.Tensor):
            x.copy_(self.permutation(x))
        else:
            capturing.note_unrepeatable("shuffles an array or a list")
            self._source.shuffle(x)

    def choice(
        self, a: ArrayLike, size: int | Shape | None = None, replace: bool = True, p: ArrayLike | None = None
    ) -> Any:
        """Draw from the integers below `a`, or from the rows of an array `a`, with or without replacement.

        Args:
            a: an integer, or an array whose first axis is drawn from.
            size: shape of the draw; a single one by default.
            replace: whether a row may be drawn more than once.
            p: probability of each row; equal by default.
        """
        rows = None if isinstance(a, (int, np.integer)) else ops.asarray(a)
        count = int(a) if rows is None else rows.shape[0]
        chances = None if p is None else np.asarray(p, np.float64)
        if chances is not None and chances.shape == (count,) and (chances >= 0).all() and chances.sum() > 0:
            total = chances.sum()
            # Probabilities that were rounded to float32 sum to one only nearly.
            chances = chances / total if abs(total - 1) < 1e-3 else chances
        of_one = _shape_of(size, 0)

        def draw(shape: Shape) -> np.ndarray:
            lead = shape[: len(shape) - len(of_one)]
            if not lead:
                return np.asarray(self._source.choice(count, of_one, replace=replace, p=chances))
            draws = [self._source.choice(count, of_one, replace=replace, p=chances) for _ in range(math.prod(lead))]
            return np.array(draws).reshape(shape)

        places = drawn(draw, of_one)
        return places if rows is None else rows[places]


def _check_chances(values: Any) -> None:
    if not np.all((np.asarray(values) >= 0) & (np.asarray(values) <= 1)):
        raise ValueError("random.bernoulli: a probability lies between 0 and 1")


def _unpacked(shape: tuple[Any, ...]) -> Shape:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape


def _restored(state: np.ndarray) -> Generator:
    made = Generator(0)
    made.set_state(state)
    return made


default_generator = Generator()
"""The generator behind this module's functions."""

seed = default_generator.seed
get_state = default_generator.get_state
set_state = default_generator.set_state
standard_normal = default_generator.standard_normal
random = default_generator.random
standard_exponential = default_generator.standard_exponential
randn = default_generator.randn
rand = default_generator.rand
normal = default_generator.normal
uniform = default_generator.uniform
exponential = default_generator.exponential
gumbel = default_generator.gumbel
integers = default_generator.integers
randint = default_generator.randint
bernoulli = default_generator.bernoulli
categorical = default_generator.categorical
permutation = default_generator.permutation
shuffle = default_generator.shuffle
choice = default_generator.choice

__all__ = [
    "Generator",
    "default_generator",
    "seed",
    "get_state",
    "set_state",
    "standard_normal",
    "random",
    "standard_exponential",
    "randn",
    "rand",
    "normal",
    "uniform",
    "exponential",
    "gumbel",
    "integers",
    "randint",
    "bernoulli",
    "categorical",
    "permutation",
    "shuffle",
    "choice",
]

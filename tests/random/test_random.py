"""Random numbers: reproducible, of the right distribution, dtype and shape, and differentiable where it makes sense."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from scipy import stats

import wengert as wg
from wengert import random
from wengert.errors import DTypeError, ShapeError

N = 20_000

CONTINUOUS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("standard_normal", (), stats.norm()),
    ("random", (), stats.uniform()),
    ("standard_exponential", (), stats.expon()),
    ("normal", (2.0, 3.0), stats.norm(2, 3)),
    ("uniform", (-1.0, 4.0), stats.uniform(-1, 5)),
    ("exponential", (2.5,), stats.expon(scale=2.5)),
    ("gumbel", (1.0, 2.0), stats.gumbel_r(1, 2)),
]


@pytest.mark.parametrize(("name", "args", "distribution"), CONTINUOUS, ids=[case[0] for case in CONTINUOUS])
def test_distributions(name: str, args: tuple[Any, ...], distribution: Any) -> None:
    sample = getattr(random.Generator(0), name)(*args, size=N)
    assert sample.dtype == np.float32
    assert stats.kstest(sample.numpy(), distribution.cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", [case[0] for case in CONTINUOUS])
def test_shapes_and_dtypes(name: str, dtype: str) -> None:
    draw = getattr(random.Generator(0), name)
    assert draw(size=(2, 3), dtype=dtype).dtype == dtype
    for size, shape in ((None, ()), (3, (3,)), ((), ()), ((2, 0), (2, 0))):
        sample = draw(size=size)
        assert type(sample) is wg.Tensor
        assert sample.shape == shape
    with pytest.raises(DTypeError, match="int64"):
        draw(size=2, dtype="int64")
    with pytest.raises(ShapeError, match="negative"):
        draw(size=(-1,))


def test_the_default_dtype_is_followed() -> None:
    wg.set_default_dtype("float64")
    try:
        assert random.randn(2).dtype == np.float64
    finally:
        wg.set_default_dtype("float32")
    assert random.randn(2).dtype == np.float32


def test_the_same_seed_gives_the_same_numbers_in_another_process() -> None:
    program = (
        "import wengert as wg; r = wg.random; r.seed(11); "
        "print(r.randn(3).tolist(), r.integers(9, size=4).tolist(), r.permutation(5).tolist(), r.rand(2).tolist())"
    )
    outputs = {subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout for _ in range(2)}
    random.seed(11)
    drawn = [random.randn(3).tolist(), random.integers(9, size=4).tolist(), random.permutation(5).tolist()]
    assert outputs == {" ".join(map(str, [*drawn, random.rand(2).tolist()])) + "\n"}


def test_the_numbers_are_those_of_numpy() -> None:
    ours, numpys = random.Generator(5), np.random.Generator(np.random.PCG64(5))
    np.testing.assert_array_equal(ours.standard_normal(4).numpy(), numpys.standard_normal(4, np.float32))
    np.testing.assert_array_equal(ours.random(4, "float64").numpy(), numpys.random(4))
    np.testing.assert_array_equal(ours.integers(3, 9, 5).numpy(), numpys.integers(3, 9, 5))


def test_generators_are_independent() -> None:
    random.seed(0)
    first = random.rand(3).tolist()
    random.seed(0)
    random.Generator(1).rand(100)
    assert random.rand(3).tolist() == first
    assert random.Generator(1).rand(3).tolist() != random.Generator(2).rand(3).tolist()
    assert random.Generator([1, 2]).rand(3).tolist() != random.Generator([2, 1]).rand(3).tolist()
    assert random.Generator().rand(3).tolist() != random.Generator().rand(3).tolist()


def test_a_state_is_all_there_is(tmp_path: Any) -> None:
    generator = random.Generator(3)
    generator.integers(5, dtype=np.uint32)  # half of a word is kept for later
    state = generator.get_state()
    wg.io.save(tmp_path / "state", {"random": state})
    expected = [generator.integers(100, size=3, dtype=np.uint32).tolist(), generator.randn(3).tolist()]
    other = random.Generator(99)
    other.set_state(wg.io.load(tmp_path / "state")["random"])
    assert [other.integers(100, size=3, dtype=np.uint32).tolist(), other.randn(3).tolist()] == expected
    for clone in (copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))):
        generator.set_state(state)
        twin = clone(generator)
        assert twin.rand(3).tolist() == generator.rand(3).tolist()


@pytest.mark.parametrize("state", [np.zeros(5, np.uint64), np.zeros(6), np.zeros(6, np.uint64)])
def test_what_is_no_state_is_refused(state: np.ndarray) -> None:
    generator = random.Generator(0)
    before = generator.get_state().tolist()
    with pytest.raises(ValueError, match="set_state"):
        generator.set_state(state)
    assert generator.get_state().tolist() == before


@pytest.mark.parametrize("seed", [-1, 1.5, "one", [1, -1]])
def test_what_is_no_seed_is_refused(seed: Any) -> None:
    generator = random.Generator(0)
    with pytest.raises(ValueError, match="non-negative integer"):
        generator.seed(seed)
    assert generator.rand(3).tolist() == random.Generator(0).rand(3).tolist()


def test_gradients_pass_to_the_parameters_of_a_distribution() -> None:
    loc = wg.tensor(np.array([1.0, 2.0]), requires_grad=True)
    scale = wg.tensor(np.array([[0.5], [2.0]]), requires_grad=True)
    noise = random.Generator(0).standard_normal((2, 2), "float64").numpy()
    out = random.Generator(0).normal(loc, scale)
    np.testing.assert_allclose(np.asarray(out.detach()), np.asarray(loc.detach()) + np.asarray(scale.detach()) * noise)
    (out * wg.tensor(np.array([[1.0, 2.0], [3.0, 4.0]]))).sum().backward()
    assert loc.grad is not None
    assert scale.grad is not None
    np.testing.assert_allclose(np.asarray(loc.grad), [4.0, 6.0])
    np.testing.assert_allclose(np.asarray(scale.grad)[:, 0], [noise[0] @ [1, 2], noise[1] @ [3, 4]])


@pytest.mark.parametrize(("name", "ends"), [("uniform", (-1.0, 2.0)), ("exponential", (2.0,)), ("gumbel", (0.5, 3.0))])
def test_other_distributions_stay_on_the_tape(name: str, ends: tuple[float, ...]) -> None:
    plain = getattr(random.Generator(0), name)(*ends, size=(3,), dtype="float64").numpy()
    tracked = [wg.tensor(np.float64(end), requires_grad=True) for end in ends]
    out = getattr(random.Generator(0), name)(*tracked, size=(3,))
    np.testing.assert_allclose(np.asarray(out.detach()), plain, rtol=1e-12)
    out.sum().backward()
    total = sum(float(t.grad) * end for t, end in zip(tracked, ends) if t.grad is not None)
    assert total == pytest.approx(plain.sum())  # each is homogeneous in its parameters


def test_parameters_decide_the_shape() -> None:
    assert random.normal(np.zeros((2, 1)), np.ones(3)).shape == (2, 3)
    assert random.normal(wg.zeros(()), 1.0).shape == ()
    assert random.normal(wg.zeros(3), 1.0, size=(2, 3)).shape == (2, 3)
    with pytest.raises(ShapeError, match="broadcast"):
        random.normal(np.zeros(3), 1.0, size=(3, 2))
    with pytest.raises(ValueError, match="negative"):
        random.normal(0.0, -1.0)


def test_integers() -> None:
    values = random.Generator(0).integers(1, 7, size=6000)
    assert values.dtype == np.int64
    assert stats.chisquare(np.bincount(values.numpy())[1:]).pvalue > 1e-3
    assert set(random.integers(3, size=100).tolist()) == {0, 1, 2}
    assert set(random.integers(1, 2, size=100, endpoint=True, dtype=np.int8).tolist()) == {1, 2}
    assert random.randint(5).shape == ()
    with pytest.raises(ValueError, match=r"no int64 to draw in \[0, 0\)"):
        random.integers(0)


def test_bernoulli_and_categorical() -> None:
    generator = random.Generator(0)
    assert abs(generator.bernoulli(0.3, N).numpy().mean() - 0.3) < 0.01
    assert generator.bernoulli(wg.tensor([0.0, 1.0], requires_grad=True)).tolist() == [False, True]
    for p in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="probability"):
            generator.bernoulli(p)
    chances = np.array([0.1, 0.2, 0.7])
    drawn = generator.categorical(np.broadcast_to(np.log(chances), (N, 3)))
    assert drawn.shape == (N,)
    assert stats.chisquare(np.bincount(drawn.numpy()), chances * N).pvalue > 1e-3
    assert generator.categorical(wg.tensor([[0.0, -np.inf], [-np.inf, 0.0]]), axis=0).tolist() == [0, 1]


def test_permutation_and_shuffle() -> None:
    generator = random.Generator(0)
    assert sorted(generator.permutation(10).tolist()) == list(range(10))
    x = wg.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    mixed = generator.permutation(x)
    (mixed * mixed.detach()).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0], [2.0], [3.0]]
    tensor, array, items = wg.arange(50), np.arange(50), list(range(50))
    view = tensor[:]
    for target in (tensor, array, items):
        assert generator.shuffle(target) is None
        assert list(map(int, target)) != list(range(50))
        assert sorted(map(int, target)) == list(range(50))
    assert view.tolist() == tensor.tolist()


def test_choice() -> None:
    generator = random.Generator(0)
    assert sorted(generator.choice(5, 5, replace=False).tolist()) == list(range(5))
    assert set(generator.choice([10, 20], 50).tolist()) == {10, 20}
    assert generator.choice(wg.ones((4, 2)), (3,)).shape == (3, 2)
    p = np.array([0.1, 0.9], np.float32)
    assert abs(generator.choice(2, N, p=p).numpy().mean() - 0.9) < 0.01
    with pytest.raises(ValueError, match="sum to 1"):
        generator.choice(2, p=[0.5, 0.9])
    with pytest.raises(ValueError, match="larger sample"):
        generator.choice(2, 3, replace=False)

"""Datasets, loaders and splits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from wengert import data
from wengert.errors import DTypeError, ShapeError

X = np.arange(20.0).reshape(10, 2)
Y = np.arange(10)


def epoch(loader: data.DataLoader) -> list[Any]:
    return [y.tolist() for _, y in loader]


def test_a_dataset_is_a_sequence_of_examples() -> None:
    dataset = data.ArrayDataset(X, Y)
    assert len(dataset) == 10
    x, y = dataset[3]
    assert (x.tolist(), y.item()) == ([6.0, 7.0], 3)
    assert [part.shape for part in dataset[2:5]] == [(3, 2), (3,)]
    assert [part.tolist() for part in data.ArrayDataset(Y)[np.array([4, 1])]] == [[4, 1]]
    with pytest.raises(IndexError):
        dataset[10]
    assert repr(dataset) == "ArrayDataset(float64[10, 2], int64[10])"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [((), "at least one"), ((X, Y[:9]), r"\(10, 2\), \(9,\)"), ((np.float64(1.0),), "first axis")],
)
def test_arrays_that_do_not_belong_together_are_refused(arrays: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        data.ArrayDataset(*arrays)
    if arrays:
        with pytest.raises(ShapeError, match=message):
            data.train_test_split(*arrays)


@pytest.mark.parametrize("drop_last", [False, True])
def test_batches_in_order(drop_last: bool) -> None:
    loader = data.DataLoader((X, Y), batch_size=4, drop_last=drop_last)
    batches = list(loader)
    assert len(batches) == len(loader) == (2 if drop_last else 3)
    assert [type(part) for part in batches[0]] == [wg.Tensor, wg.Tensor]
    joined = np.concatenate([np.asarray(x) for x, _ in batches])
    np.testing.assert_array_equal(joined, X[: len(joined)])
    assert epoch(loader) == epoch(loader)


def test_a_shuffle_is_new_in_each_epoch_and_the_same_for_the_same_seed() -> None:
    first, second = (data.DataLoader((X, Y), 3, shuffle=True, seed=5) for _ in range(2))
    epochs = [epoch(first) for _ in range(3)]
    assert [epoch(second) for _ in range(3)] == epochs
    assert all(sorted(i for batch in order for i in batch) == list(range(10)) for order in epochs)
    assert len({str(order) for order in epochs}) == 3
    second.epoch = 1
    assert epoch(second) == epochs[1]
    for x, y in first:
        np.testing.assert_array_equal(x.numpy()[:, 0], 2.0 * y.numpy())


def test_the_seed_follows_that_of_wg_random() -> None:
    orders = []
    for _ in range(2):
        wg.random.seed(3)
        orders.append(epoch(data.DataLoader((X, Y), 10, shuffle=True)))
    assert orders[0] == orders[1]


def test_a_generator_goes_on() -> None:
    loader = data.DataLoader((X, Y), 10, shuffle=True, generator=wg.random.Generator(0))
    assert epoch(loader) != epoch(loader)


def test_two_iterations_at_once_do_not_disturb_each_other() -> None:
    loader = data.DataLoader((X, Y), 5, shuffle=True, seed=0)
    one, other = iter(loader), iter(loader)
    mixed = [next(one)[1], next(other)[1], next(one)[1], next(other)[1]]
    loader.epoch = 0
    assert epoch(loader) == [mixed[0].tolist(), mixed[2].tolist()]
    assert epoch(loader) == [mixed[1].tolist(), mixed[3].tolist()]


def test_a_single_array_gives_bare_tensors() -> None:
    assert [batch.tolist() for batch in data.DataLoader(wg.arange(3), 2)] == [[0, 1], [2]]
    assert [type(batch) for batch in data.DataLoader(data.ArrayDataset(Y), 10)] == [tuple]


def test_any_sequence_of_examples_is_stacked() -> None:
    class Squares:
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return {"x": np.full(2, float(index)), "square": index**2}, index > 0

    (first, last) = data.DataLoader(Squares(), batch_size=2)
    assert first[0]["x"].tolist() == [[0.0, 0.0], [1.0, 1.0]]
    assert first[0]["square"].tolist() == [0, 1]
    assert first[1].tolist() == [False, True]
    assert last[0]["square"].tolist() == [4]
    assert len(list(data.DataLoader(Squares(), shuffle=True, seed=0))) == 3


def test_loaders_refuse_what_makes_no_sense() -> None:
    for settings, message in (
        ({"batch_size": 0}, "batch_size"),
        ({"seed": 1, "generator": wg.random.Generator(0)}, "not both"),
        ({"seed": -1}, "non-negative"),
    ):
        with pytest.raises(ValueError, match=message):
            data.DataLoader((X, Y), shuffle=True, **settings)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="dict"):
        data.DataLoader({"x": X})
    with pytest.raises(ShapeError, match="numbers of examples"):
        data.DataLoader((X, Y[:3]))


def test_batches_are_on_no_tape_and_may_be_written() -> None:
    for x in (X.copy(), wg.tensor(X)):
        for shuffle in (False, True):
            for batch in data.DataLoader(x, 5, shuffle=shuffle):
                assert type(batch) is wg.Tensor
                assert not batch.requires_grad
                batch.zero_()
            np.testing.assert_array_equal(np.asarray(x), X)


@pytest.mark.parametrize("size", [0.25, 3])
def test_a_split_covers_everything_once(size: float) -> None:
    x_train, x_test, y_train, y_test = data.train_test_split(wg.tensor(X), Y, test_size=size, seed=0)
    assert isinstance(x_train, wg.Tensor)
    assert isinstance(y_train, np.ndarray)
    assert len(x_test) == 3
    assert sorted([*y_train, *y_test]) == list(range(10))
    np.testing.assert_array_equal(np.asarray(x_test)[:, 1], 2 * y_test + 1)
    again = data.train_test_split(wg.tensor(X), Y, test_size=size, seed=0)
    assert again[3].tolist() == y_test.tolist()
    assert data.train_test_split(Y, test_size=size, seed=1)[1].tolist() != y_test.tolist()


def test_a_stratified_split_keeps_proportions() -> None:
    labels = np.repeat(["a", "b", "c"], [60, 30, 10])
    codes = np.repeat([0, 1, 2], [60, 30, 10])
    train, test, _, test_codes = data.train_test_split(np.arange(100), codes, test_size=0.2, seed=4, stratify=codes)
    assert np.bincount(test_codes).tolist() == [12, 6, 2]
    assert sorted([*train, *test]) == list(range(100))
    assert len(labels[test]) == 20
    uneven = data.train_test_split(codes, test_size=0.25, seed=4, stratify=wg.tensor(codes))[1]
    assert len(uneven) == 25
    assert all(abs(count - share) < 1 for count, share in zip(np.bincount(uneven), [15, 7.5, 2.5]))


def test_splits_that_leave_a_side_empty_are_refused() -> None:
    for size in (0.0, 1.0, 10, -0.5, 0):
        with pytest.raises(ValueError, match="both sides"):
            data.train_test_split(Y, test_size=size)
    with pytest.raises(ValueError, match="class 1"):
        data.train_test_split(Y, test_size=0.5, stratify=np.array([0] * 9 + [1]))
    with pytest.raises(ShapeError, match="stratify"):
        data.train_test_split(Y, stratify=np.zeros(3))

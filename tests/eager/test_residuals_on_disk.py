"""`residuals_on_disk`: less memory, the same gradients, and no file left behind."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.core.lines import grad_of, here


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def leaf(array: Any) -> Any:
    return wg.tensor(np.asarray(array), requires_grad=True)


def block(folder: Path, min_bytes: int = 0) -> Any:
    return wg.residuals_on_disk(folder, min_bytes=min_bytes)


def test_gradients_are_the_same_and_files_go_with_the_sweep(tmp_path: Path) -> None:
    x = leaf(np.linspace(-1, 1, 12).reshape(3, 4))
    wg.sum(wg.exp(wg.sin(x)) * x).backward()
    y = leaf(x.detach().numpy())
    with block(tmp_path):
        out = wg.sum(wg.exp(wg.sin(y)) * y)
    assert files(tmp_path)
    out.backward(retain_graph=True)
    assert files(tmp_path)
    out.backward()
    assert not list(tmp_path.iterdir())
    np.testing.assert_array_equal(grad_of(y).numpy(), 2 * grad_of(x).numpy())


def test_differentiable_sweeps(tmp_path: Path) -> None:
    x = leaf([0.5, 2.0])
    with block(tmp_path):
        y = wg.sum(wg.exp(wg.sin(x)))
        (first,) = wg.autograd.grad(y, x, create_graph=True)
    (second,) = wg.autograd.grad(first.sum(), x)
    s, c = np.sin([0.5, 2.0]), np.cos([0.5, 2.0])
    np.testing.assert_allclose(second.numpy(), np.exp(s) * (c * c - s))


def test_views_and_arrays_that_are_not_contiguous(tmp_path: Path) -> None:
    values = np.arange(60.0).reshape(3, 4, 5) / 30
    x = leaf(values)
    with block(tmp_path):
        h = x * 1.0
        view = wg.transpose(h, (2, 0, 1))[::-2, 1:, ::3]
        out = wg.sum(wg.sin(view)) + wg.sum(wg.sin(wg.asarray(np.asfortranarray(values[0])) * x[0]))
    assert files(tmp_path)
    out.backward()
    expected = np.zeros((3, 4, 5))
    part = expected.transpose(2, 0, 1)[::-2, 1:, ::3]
    part[...] = np.cos(values.transpose(2, 0, 1)[::-2, 1:, ::3])
    expected[0] += np.cos(values[0] * values[0]) * values[0]
    np.testing.assert_allclose(grad_of(x).numpy(), expected)


def test_what_stays_in_memory(tmp_path: Path) -> None:
    x, w = leaf(np.ones((4, 4))), leaf(np.ones((4, 4)))
    with block(tmp_path, min_bytes=4 * 4 * 8):
        small = wg.sin(x[0] * 1.0)  # too small
        product = x @ w  # values of leaves
        wide = wg.sin(wg.broadcast_to(x[:1] * 1.0, (4, 4)))  # one row, stretched
        assert not files(tmp_path)
        large = wg.sin(x * 1.0)
        assert len(files(tmp_path)) == 1
    del small, product, wide, large
    assert not files(tmp_path)


def test_neighbours_that_need_the_same_value_write_it_once(tmp_path: Path) -> None:
    x, w = leaf(np.ones((4, 4))), leaf(np.ones((4, 4)))
    with block(tmp_path):
        h = wg.tanh(x)
        y = h @ w
        assert len(files(tmp_path)) == 1
    y.sum().backward()
    assert not files(tmp_path)


def test_a_value_that_is_written_in_place_is_not_taken_for_the_old_one(tmp_path: Path) -> None:
    x = leaf([1.0, 2.0, 3.0])
    with block(tmp_path):
        h = wg.tanh(x)
        old = h.detach().numpy().copy()
        y = h * h
        for i in range(6):
            h[i % 3] = 10.0 + i
            y = y + h * h
    y.sum().backward()
    constant = np.zeros(3)  # d/dx of what was written is zero; each entry counts until it is overwritten
    rounds = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(grad_of(x).numpy(), constant + rounds * 2 * old * (1 - old * old))


def test_files_go_when_the_tape_is_dropped_or_an_exception_comes(tmp_path: Path) -> None:
    x = leaf(np.ones(8))
    with pytest.raises(ZeroDivisionError), block(tmp_path):
        y = wg.sin(x * 2.0)
        assert files(tmp_path)
        raise ZeroDivisionError
    assert files(tmp_path)
    del y
    gc.collect()
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_an_error_of_the_operation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = leaf(np.ones(8))

    def full(*_args: Any, **_kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    h = x * 2.0
    with block(tmp_path), monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        with pytest.raises(OSError, match="No space"):
            wg.sin(h)
    gc.collect()
    assert not files(tmp_path)


def test_a_lost_file_is_named_with_the_operation(tmp_path: Path) -> None:
    x = leaf(np.ones(8))
    with block(tmp_path):
        y, line = wg.sin(x * 2.0), here()
    for file in files(tmp_path):
        file.unlink()
    with pytest.raises(FileNotFoundError) as caught:
        y.sum().backward()
    assert any("sin" in note and line in note for note in caught.value.__notes__)


def test_a_forked_process_leaves_the_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = leaf(np.ones(8))
    with block(tmp_path):
        y = wg.sin(x * 2.0)
    before = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        del y
    assert files(tmp_path) == before != []


def test_as_a_decorator_and_bad_arguments(tmp_path: Path) -> None:
    @wg.residuals_on_disk(tmp_path, min_bytes=0)
    def sine(x: Any) -> Any:
        return wg.sin(x * 1.0)

    y = sine(leaf(np.ones(3)))
    assert files(tmp_path)
    y.sum().backward()
    for wrong in (-1, 2.5, True):
        with pytest.raises(ValueError, match="number of bytes"):
            wg.residuals_on_disk(min_bytes=wrong)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="not a directory"):
        wg.residuals_on_disk(tmp_path / "nowhere")


def test_memory_falls(tmp_path: Path) -> None:
    size, depth = 40_000, 20

    def peak(on_disk: bool) -> int:
        x = leaf(np.linspace(0, 1, size))
        gc.collect()
        tracemalloc.start()
        try:
            if on_disk:
                with block(tmp_path, min_bytes=1024):
                    out = _deep(x, depth)
            else:
                out = _deep(x, depth)
            out.backward()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    plain, on_disk = peak(False), peak(True)
    assert plain > depth * size * 8
    assert on_disk < plain / 2, (plain, on_disk)


def _deep(x: Any, depth: int) -> Any:
    for _ in range(depth):
        x = wg.sin(x)
    return wg.sum(x)

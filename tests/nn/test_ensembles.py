"""Several modules of one architecture under `vmap`: as quick as one, and the same as a loop over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg


def models(count: int) -> list[wg.nn.Sequential]:
    wg.random.seed(0)
    return [wg.nn.Sequential(wg.nn.Linear(3, 4), wg.nn.Tanh(), wg.nn.Linear(4, 2)) for _ in range(count)]


def test_an_ensemble_equals_a_loop() -> None:
    ensemble = models(5)
    x = wg.tensor(np.random.default_rng(0).normal(size=(7, 3)).astype("float32"))
    params, buffers = wg.nn.stack_module_state(ensemble)
    assert buffers == {}
    assert all(tensor.requires_grad and tensor.is_leaf for tensor in params.values())

    def call(params: Any, x: Any) -> Any:
        return wg.nn.functional_call(ensemble[0], params, x)

    together = wg.vmap(call, in_axes=(0, None))(params, x)
    # Rounding of products in float32, whose rows may be summed in another order.
    for one, model in zip(together, ensemble, strict=True):
        np.testing.assert_allclose(one.detach(), model(x).detach(), rtol=1e-6, atol=1e-6)


def test_gradients_of_an_ensemble_equal_those_of_its_members() -> None:
    ensemble = models(3)
    x = wg.tensor(np.random.default_rng(1).normal(size=(6, 3)).astype("float32"))
    labels = wg.tensor([0, 1, 1, 0, 1, 0])
    params, _ = wg.nn.stack_module_state(ensemble)

    def loss(params: Any) -> Any:
        return wg.nn.functional.cross_entropy(wg.nn.functional_call(ensemble[0], params, x), labels)

    by_grad = wg.vmap(wg.grad(loss))(params)
    wg.vmap(loss)(params).sum().backward()
    for i, model in enumerate(ensemble):
        wg.nn.functional.cross_entropy(model(x), labels).backward()
        for name, parameter in model.named_parameters():
            expected = parameter.grad
            accumulated = params[name].grad
            assert expected is not None and accumulated is not None
            scale = np.abs(expected.numpy()).max()
            for got in (by_grad[name][i].detach(), accumulated[i]):
                np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6 * scale)


def test_the_originals_are_left_alone() -> None:
    ensemble = models(2)
    before = [parameter.detach().clone() for model in ensemble for parameter in model.parameters()]
    params, _ = wg.nn.stack_module_state(ensemble)
    with wg.no_grad():
        for tensor in params.values():
            tensor.zero_()
    after = [parameter for model in ensemble for parameter in model.parameters()]
    assert all(np.array_equal(old, new.detach()) for old, new in zip(before, after, strict=True))


def test_modules_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="no modules"):
        wg.nn.stack_module_state([])
    with pytest.raises(ValueError, match=r"modules\[1\] is a ReLU, but modules\[0\] is a Linear"):
        wg.nn.stack_module_state([wg.nn.Linear(2, 2), wg.nn.ReLU()])
    with pytest.raises(ValueError, match=r"modules\[1\] has other parameters than modules\[0\]: bias"):
        wg.nn.stack_module_state([wg.nn.Linear(2, 2), wg.nn.Linear(2, 2, bias=False)])
    with pytest.raises(ValueError, match=r"'weight' of the modules differ in shape or dtype: \(2, 2\).*\(2, 3\)"):
        wg.nn.stack_module_state([wg.nn.Linear(2, 2), wg.nn.Linear(3, 2)])

"""PyTorch's transforms: `torch.func`, and what came before it where that may be faster."""

# pyright: reportMissingImports=false, reportPrivateImportUsage=false
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import forward_ad
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.nn.functional import cross_entropy, linear, relu

from benchmarks.works import Batched, Hessian, HessianVector, Jacobian, Job, PerSample, Pushforward, derivatives, leaves

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


job = partial(derivatives, to_array=_numpy)
# The rows of PyTorch's weights are outputs.
layers_job = partial(job, outputs_first=True)

Layers = tuple[tuple[torch.Tensor, torch.Tensor], ...]


def _layers(pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> Layers:
    return tuple((torch.tensor(weight.T.copy()), torch.tensor(bias)) for weight, bias in pairs)


def _loss(layers: Layers, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    *hidden_layers, last = layers
    for weight, bias in hidden_layers:
        images = relu(linear(images, weight, bias))
    return cross_entropy(linear(images, *last), labels)


def _hessian_vector(work: HessianVector) -> list[Job]:
    images, labels = (torch.tensor(array) for array in work.inputs)
    layers, directions = _layers(work.parameters), _layers(work.directions)
    gradient = grad(_loss)
    parameters = [tensor.clone().requires_grad_() for tensor in leaves(layers)]
    vector = leaves(directions)

    def loss_of(tensors: list[torch.Tensor]) -> torch.Tensor:
        return _loss(tuple(zip(tensors[::2], tensors[1::2], strict=True)), images, labels)

    def gradient_of(layers: Layers) -> Any:
        return gradient(layers, images, labels)

    def forward_over_reverse() -> Any:
        return jvp(gradient_of, (layers,), (directions,))[1]

    def reverse_over_reverse() -> Any:
        pullback = vjp(gradient_of, layers)[1]
        return pullback(directions)

    def double_backward() -> Any:
        gradients = torch.autograd.grad(loss_of(parameters), parameters, create_graph=True)
        return torch.autograd.grad(gradients, parameters, grad_outputs=vector)

    def dual_numbers() -> Any:
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(tensor, tangent) for tensor, tangent in zip(parameters, vector, strict=True)]
            gradients = torch.autograd.grad(loss_of(duals), duals)
            return [forward_ad.unpack_dual(gradient).tangent for gradient in gradients]

    return [
        layers_job("`torch.func.jvp` of `torch.func.grad`", forward_over_reverse),
        layers_job("`torch.func.vjp` of `torch.func.grad`", reverse_over_reverse),
        layers_job("`torch.autograd.grad` twice", double_backward),
        layers_job("`torch.autograd.grad` of dual numbers", dual_numbers),
    ]


def _hessian(work: Hessian) -> list[Job]:
    point, *others = (torch.tensor(array) for array in work.inputs)

    def function(x: torch.Tensor) -> torch.Tensor:
        return work.function(torch, x, *others)

    vectorized = partial(torch.autograd.functional.hessian, function, vectorize=True)
    return [
        job("`torch.func.hessian`", partial(hessian(function), point)),
        job("`torch.func.jacrev` twice", partial(jacrev(jacrev(function)), point)),
        job("`torch.autograd.functional.hessian(vectorize=True)`", partial(vectorized, point)),
    ]


def _jacobian(work: Jacobian) -> list[Job]:
    point, *others = (torch.tensor(array) for array in work.inputs)

    def function(x: torch.Tensor) -> torch.Tensor:
        return work.function(torch, x, *others)

    vectorized = partial(torch.autograd.functional.jacobian, function, vectorize=True)
    return [
        job("`torch.func.jacrev`", partial(jacrev(function), point)),
        job("`torch.func.jacfwd`", partial(jacfwd(function), point)),
        job("`torch.autograd.functional.jacobian(vectorize=True)`", partial(vectorized, point)),
    ]


def _per_sample(work: PerSample) -> list[Job]:
    images, labels = (torch.tensor(array) for array in work.inputs)
    gradients = vmap(grad(_loss), in_dims=(None, 0, 0))
    way = "`torch.func.vmap` of `torch.func.grad`"
    return [layers_job(way, partial(gradients, _layers(work.parameters), images, labels))]


def _batched(work: Batched) -> list[Job]:
    inputs = [torch.tensor(array) for array in work.inputs]
    mapped = vmap(partial(work.function, torch), in_dims=(0, *[None] * (len(inputs) - 1)))
    return [job("`torch.func.vmap`", partial(mapped, *inputs))]


def _pushforward(work: Pushforward) -> list[Job]:
    inputs = tuple(torch.tensor(array) for array in work.inputs)
    directions = tuple(torch.tensor(array) for array in work.directions)
    function = partial(work.function, torch)

    def dual_numbers() -> Any:
        with forward_ad.dual_level():
            duals = [forward_ad.make_dual(x, tangent) for x, tangent in zip(inputs, directions, strict=True)]
            return tuple(forward_ad.unpack_dual(function(*duals)))

    return [
        job("`torch.func.jvp`", partial(jvp, function, inputs, directions)),
        job("dual numbers of `torch.autograd.forward_ad`", dual_numbers),
    ]


BUILDERS = {
    HessianVector: _hessian_vector,
    Hessian: _hessian,
    Jacobian: _jacobian,
    PerSample: _per_sample,
    Batched: _batched,
    Pushforward: _pushforward,
}

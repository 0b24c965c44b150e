"""The update rules as their papers write them: one parameter, double precision, nothing clever."""

from __future__ import annotations

import numpy as np

Array = np.ndarray


class Reference:
    """Base: hyperparameters as attributes, the parameter as `value`."""

    def __init__(self, value: Array, **settings: object) -> None:
        self.value = value.astype(np.float64)
        self.t = 0
        for name, setting in settings.items():
            setattr(self, name, setting)
        self.m = np.zeros_like(self.value)
        self.v = np.zeros_like(self.value)
        self.buffer = np.zeros_like(self.value)
        self.largest = np.zeros_like(self.value)

    def step(self, gradient: Array) -> None:
        self.t += 1
        self.update(gradient.astype(np.float64))

    def update(self, g: Array) -> None:
        raise NotImplementedError


class SGD(Reference):
    lr = 1e-3
    momentum = 0.0
    dampening = 0.0
    weight_decay = 0.0
    nesterov = False

    def update(self, g: Array) -> None:
        g = g + self.weight_decay * self.value
        if self.momentum:
            self.buffer = g if self.t == 1 else self.momentum * self.buffer + (1 - self.dampening) * g
            g = g + self.momentum * self.buffer if self.nesterov else self.buffer
        self.value = self.value - self.lr * g


class Adam(Reference):
    lr = 1e-3
    betas = (0.9, 0.999)
    eps = 1e-8
    weight_decay = 0.0
    amsgrad = False
    decoupled = False

    def update(self, g: Array) -> None:
        first, second = self.betas
        if self.decoupled:
            self.value = self.value - self.lr * self.weight_decay * self.value
        else:
            g = g + self.weight_decay * self.value
        self.m = first * self.m + (1 - first) * g
        self.v = second * self.v + (1 - second) * g**2
        self.largest = np.maximum(self.largest, self.v)
        m_hat = self.m / (1 - first**self.t)
        v_hat = (self.largest if self.amsgrad else self.v) / (1 - second**self.t)
        self.value = self.value - self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


class AdamW(Adam):
    decoupled = True
    weight_decay = 1e-2


class RMSprop(Reference):
    lr = 1e-2
    alpha = 0.99
    eps = 1e-8
    weight_decay = 0.0
    momentum = 0.0
    centered = False

    def update(self, g: Array) -> None:
        g = g + self.weight_decay * self.value
        self.v = self.alpha * self.v + (1 - self.alpha) * g**2
        self.m = self.alpha * self.m + (1 - self.alpha) * g
        spread = self.v - self.m**2 if self.centered else self.v
        direction = g / (np.sqrt(np.maximum(spread, 0)) + self.eps)
        if self.momentum:
            self.buffer = self.momentum * self.buffer + direction
            direction = self.buffer
        self.value = self.value - self.lr * direction


class Adagrad(Reference):
    lr = 1e-2
    lr_decay = 0.0
    weight_decay = 0.0
    initial_accumulator_value = 0.0
    eps = 1e-10

    def update(self, g: Array) -> None:
        g = g + self.weight_decay * self.value
        if self.t == 1:
            self.v = self.v + self.initial_accumulator_value
        self.v = self.v + g**2
        rate = self.lr / (1 + (self.t - 1) * self.lr_decay)
        self.value = self.value - rate * g / (np.sqrt(self.v) + self.eps)

"""Training steps, compiled and eager: optimisers, schedules, frozen weights, gradients that come and go, buffers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import wengert as wg
from tests.compile.twins import Compiler, leaf, play, see
from wengert import nn, optim
from wengert.compile.api import CompileWarning

SCENARIOS: list[Any] = []
FALLING_BACK: list[Any] = []


def scenario(function: Any) -> Any:
    SCENARIOS.append(function)
    return function


def falls_back(function: Any) -> Any:
    FALLING_BACK.append(function)
    return function


X = np.random.default_rng(0).normal(size=(6, 5, 3)).astype("float32")
Y = np.random.default_rng(1).normal(size=(6, 5, 2)).astype("float32")


def model():
    wg.random.seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def train(c, make, between=lambda k, optimizer, m: None, n=6, extra=lambda m: None, position=0):
    m = model()
    optimizer = make(list(m.parameters()))
    seen = []

    @c
    def step(x, y):
        if position == 0:
            optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        if position == 1:
            optimizer.zero_grad()
        loss.backward()
        extra(m)
        optimizer.step()
        if position == 2:
            optimizer.zero_grad()
        if position == 3:
            optimizer.zero_grad(set_to_none=False)
        return loss.detach()

    for k in range(n):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters())
        between(k, optimizer, m)
        seen.append({a: see(b) for a, b in optimizer.state_dict()["state"].items()})
    return seen


def sched_inside(c, mks):
    m = model()
    optimizer = optim.SGD(m.parameters(), lr=0.1)
    s = mks(optimizer)
    seen = []

    @c
    def step(x, y):
        optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        s.step()
        return loss

    for k in range(6):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters(), optimizer.param_groups[0]["lr"])
    return seen


OPTIMIZERS: dict[str, Any] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "Nesterov": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.1, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.1),
    "AMSGrad": lambda p: optim.Adam(p, lr=0.1, amsgrad=True),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1, lr_decay=0.1),
}


@pytest.mark.parametrize("position", range(5))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_with_zero_grad_anywhere(name: str, position: int) -> None:
    def steps(c: Compiler) -> Any:
        return train(c, OPTIMIZERS[name], position=position)

    play(steps)


@scenario
def groups(c: Compiler) -> Any:
    return train(c, lambda p: optim.Adam([{"params": p[:2], "lr": 0.1}, {"params": p[2:], "lr": 0.01}]))


@scenario
def lrchange(c: Compiler) -> Any:
    return train(
        c,
        lambda p: optim.Adam(p, lr=0.1),
        lambda k, optimizer, m: optimizer.param_groups[0].__setitem__("lr", 0.1 / (k + 2)),
    )


@scenario
def betachange(c: Compiler) -> Any:
    return train(
        c,
        lambda p: optim.Adam(p, lr=0.1),
        lambda k, optimizer, m: optimizer.param_groups[0].__setitem__("betas", (0.9, 0.99 - 0.01 * k)),
    )


@scenario
def wdchange(c: Compiler) -> Any:
    return train(
        c,
        lambda p: optim.SGD(p, lr=0.1, weight_decay=0.1),
        lambda k, optimizer, m: optimizer.param_groups[0].__setitem__("weight_decay", 0.1 * (k % 2)),
    )


@scenario
def momchange(c: Compiler) -> Any:
    return train(
        c,
        lambda p: optim.SGD(p, lr=0.1, momentum=0.0),
        lambda k, optimizer, m: optimizer.param_groups[0].__setitem__("momentum", 0.3 * (k % 3)),
    )


@scenario
def clip(c: Compiler) -> Any:
    return train(c, lambda p: optim.Adam(p, lr=0.1), extra=lambda m: optim.clip_grad_norm_(m.parameters(), 0.1))


@scenario
def clipval(c: Compiler) -> Any:
    return train(c, lambda p: optim.SGD(p, lr=0.1), extra=lambda m: optim.clip_grad_value_(m.parameters(), 0.01))


@scenario
def freeze_training(c: Compiler) -> Any:
    return train(
        c, lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda k, optimizer, m: m[0].weight.requires_grad_(k % 3 == 1)
    )


@scenario
def freeze2(c: Compiler) -> Any:
    return train(c, lambda p: optim.Adam(p, lr=0.1), lambda k, optimizer, m: m[0].requires_grad_(k % 2 == 1))


@scenario
def loadstate(c: Compiler) -> Any:
    st = []

    def b(k, optimizer, m):
        if k == 1:
            st.append(copy.deepcopy(optimizer.state_dict()))
        if k == 3:
            optimizer.load_state_dict(st[0])

    return train(c, lambda p: optim.Adam(p, lr=0.1), b)


@scenario
def loadmodel(c: Compiler) -> Any:
    st = []

    def b(k, optimizer, m):
        if k == 1:
            st.append(copy.deepcopy(m.state_dict()))
        if k == 3:
            m.load_state_dict(st[0])

    return train(c, lambda p: optim.Adam(p, lr=0.1), b)


@scenario
def addgroup(c: Compiler) -> Any:
    w = leaf(1.0, 2.0)

    def b(k, optimizer, m):
        if k == 2:
            optimizer.add_param_group({"params": [w], "lr": 0.5})
        w.grad = wg.ones(2)

    return train(c, lambda p: optim.SGD(p, lr=0.1), b) + see(w)


@scenario
def gradnone_between(c: Compiler) -> Any:
    return train(
        c,
        lambda p: optim.SGD(p, lr=0.1),
        lambda k, optimizer, m: setattr(m[0].weight, "grad", None) if k % 2 else None,
        position=9,
    )


@scenario
def gradset_between(c: Compiler) -> Any:
    return train(
        c,
        lambda p: optim.SGD(p, lr=0.1),
        lambda k, optimizer, m: setattr(m[0].weight, "grad", wg.ones((4, 3)) * k),
        position=9,
    )


@scenario
def weights_written_between(c: Compiler) -> Any:
    def b(k, optimizer, m):
        with wg.no_grad():
            m[0].weight[0] = float(k)
            m[2].bias.copy_(1.0)

    return train(c, lambda p: optim.Adam(p, lr=0.1), b)


@scenario
def sched_outside(c: Compiler) -> Any:
    s = []

    def mk(p):
        optimizer = optim.SGD(p, lr=0.1)
        s.append(optim.StepLR(optimizer, 2, gamma=0.5))
        return optimizer

    return train(c, mk, lambda k, optimizer, m: s[-1].step())


@scenario
def sched_in_step(c: Compiler) -> Any:
    return sched_inside(c, lambda optimizer: optim.StepLR(optimizer, 2, gamma=0.5))


@scenario
def sched_in_cos(c: Compiler) -> Any:
    return sched_inside(c, lambda optimizer: optim.CosineAnnealingLR(optimizer, 5))


@scenario
def grads_held(c: Compiler) -> Any:
    m = model()
    optimizer = optim.SGD(m.parameters(), lr=0.1)
    seen = []
    held = []

    @c
    def step(x, y):
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    for k in range(4):
        step(wg.tensor(X[k]), wg.tensor(Y[k]))
        held += [p.grad for p in m.parameters()]
        seen += see(*held)
    return seen


@scenario
def np_held(c: Compiler) -> Any:
    m = model()
    optimizer = optim.SGD(m.parameters(), lr=0.1)
    seen = []
    held = []
    v = []

    @c
    def step(x, y):
        optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    for k in range(4):
        held += [p.detach().numpy() for p in m.parameters()]
        v += [m[0].weight.detach()[0], m[0].weight.detach().T]
        step(wg.tensor(X[k]), wg.tensor(Y[k]))
        seen += see(*held, *v)
    return seen


@scenario
def bn(c: Compiler) -> Any:
    m = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3))
    wg.random.seed(0)
    seen = []
    for p in m.parameters():
        nn.init.uniform_(p)
    optimizer = optim.SGD(m.parameters(), lr=0.1)

    @c
    def step(x):
        optimizer.zero_grad()
        loss = (m(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    ev = c(m)
    for k in range(6):
        seen += see(step(wg.tensor(X[k])), m.state_dict())
        m.eval()
        seen += see(ev(wg.tensor(X[k])))
        if k != 3:
            m.train()
        seen += see(ev(wg.tensor(X[k])), m.state_dict())
    return seen


@scenario
def closure_lbfgs_like(c: Compiler) -> Any:
    m = model()
    optimizer = optim.SGD(m.parameters(), lr=0.1)
    seen = []

    @c
    def step(x, y):

        def cl():
            optimizer.zero_grad()
            loss = ((m(x) - y) ** 2).mean()
            loss.backward()
            return loss

        return optimizer.step(cl)

    for k in range(4):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters())
    return seen


@scenario
def exc_capture(c: Compiler) -> Any:
    m = model()
    optimizer = optim.Adam(m.parameters(), lr=0.1)
    seen = []
    boom = [True]

    @c
    def step(x, y):
        optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        if boom[0]:
            raise ValueError("boom")
        optimizer.step()
        return loss

    for k in range(5):
        boom[0] = k in (0, 3)
        try:
            seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])))
        except ValueError as e:
            seen.append(str(e))
        if k:
            seen += see(*[p.detach() for p in m.parameters()])
    return seen


@scenario
def two_opts(c: Compiler) -> Any:
    m = model()
    ps = list(m.parameters())
    a = optim.Adam(ps[:2], lr=0.1)
    b = optim.SGD(ps[2:], lr=0.1, momentum=0.9)
    seen = []

    @c
    def step(x, y):
        for optimizer in (a, b):
            optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        a.step()
        b.step()
        a.step()
        return loss

    for k in range(4):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *ps)
    return seen


@scenario
def accum(c: Compiler) -> Any:
    m = model()
    optimizer = optim.SGD(m.parameters(), lr=0.1)
    seen = []

    @c
    def acc(x, y):
        loss = ((m(x) - y) ** 2).mean() / 2
        loss.backward()
        return loss.detach()

    @c
    def upd():
        optimizer.step()
        optimizer.zero_grad()

    for k in range(6):
        seen += see(acc(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters())
        if k % 2:
            upd()
            seen += see(*m.parameters())
    return seen


@scenario
def some_grads_missing(c: Compiler) -> Any:
    m = model()
    optimizer = optim.Adam(m.parameters(), lr=0.1)
    seen = []

    @c
    def step(x, y, which):
        optimizer.zero_grad()
        h = m[0](x)
        loss = (h**2).mean() if which else ((m[2](m[1](h)) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    for k in range(6):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k]), k % 2 == 0), *m.parameters())
    return seen


@scenario
def grad_scaled(c: Compiler) -> Any:
    m = model()
    optimizer = optim.SGD(m.parameters(), lr=0.1)
    seen = []

    @c
    def step(x, y):
        optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        (loss * 8).backward()
        for p in m.parameters():
            p.grad /= 8
            p.grad[0] = p.grad[0] * 2
            p.grad = p.grad + 0.01
        optimizer.step()
        return loss

    for k in range(4):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters())
    return seen


@scenario
def manual_sgd(c: Compiler) -> Any:
    m = model()
    seen = []

    @c
    def step(x, y):
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        with wg.no_grad():
            for p in m.parameters():
                p -= 0.1 * p.grad
                p.grad = None
        return loss

    for k in range(4):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters())
    return seen


@scenario
def manual_sgd_zero(c: Compiler) -> Any:
    m = model()
    seen = []

    @c
    def step(x, y):
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        with wg.no_grad():
            for p in m.parameters():
                p -= 0.1 * p.grad
                p.grad.zero_()
        return loss

    for k in range(4):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters())
    return seen


@scenario
def ema(c: Compiler) -> Any:
    m = model()
    e = model()
    seen = []
    optimizer = optim.SGD(m.parameters(), lr=0.1)

    @c
    def step(x, y):
        optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        with wg.no_grad():
            for p, q in zip(e.parameters(), m.parameters()):
                p.copy_(0.9 * p + 0.1 * q)
        return loss

    for k in range(4):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters(), *e.parameters())
    return seen


@scenario
def sched_lambda_in(c: Compiler) -> Any:
    return sched_inside(c, lambda optimizer: optim.LambdaLR(optimizer, lambda k: 0.9**k))


@falls_back
def lr_by_hand_inside(c: Compiler) -> Any:
    m = model()
    optimizer = optim.SGD(m.parameters(), lr=0.1)
    seen = []

    @c
    def step(x, y):
        optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        for g in optimizer.param_groups:
            g["lr"] *= 0.5
        optimizer.step()
        return loss.detach()

    for k in range(6):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters(), optimizer.param_groups[0]["lr"])
    return seen


@falls_back
def lr_argument(c: Compiler) -> Any:
    m = model()
    optimizer = optim.Adam(m.parameters(), lr=0.1)
    seen = []

    @c
    def step(x, y, lr):
        optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        for g in optimizer.param_groups:
            g["lr"] = lr
        optimizer.step()
        return loss.detach()

    for k in range(6):
        seen += see(
            step(wg.tensor(X[k]), wg.tensor(Y[k]), 0.1 / (1 + k % 3)), *m.parameters(), optimizer.param_groups[0]["lr"]
        )
    return seen


@scenario
def two_steps(c: Compiler) -> Any:
    m = model()
    ps = list(m.parameters())
    a = optim.Adam(ps, lr=0.1, amsgrad=True)
    seen = []

    @c
    def step(x, y):
        for _ in range(3):
            a.zero_grad()
            loss = ((m(x) - y) ** 2).mean()
            loss.backward()
            a.step()
        return loss.detach()

    for k in range(4):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *ps)
    return seen


@scenario
def grad_as_argument(c: Compiler) -> Any:
    w = leaf(1.0, 2.0, 3.0)
    seen = []

    @c
    def step(g):
        w.grad = None
        (w * w * g).sum().backward()
        return g * 2

    for k in range(5):
        w.grad = w.grad if k else wg.ones(3)
        seen += see(step(w.grad), w)
    return seen


@scenario
def lr_returned(c: Compiler) -> Any:
    m = model()
    optimizer = optim.Adam(m.parameters(), lr=0.1)
    s = optim.StepLR(optimizer, 2)
    seen = []

    @c
    def step(x, y):
        optimizer.zero_grad()
        loss = ((m(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return (loss.detach(), optimizer.param_groups[0]["lr"], s.get_last_lr())

    for k in range(6):
        seen += see(step(wg.tensor(X[k]), wg.tensor(Y[k])), *m.parameters())
        s.step()
    return seen


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
def test_compiled_and_eager_agree(played: Any) -> None:
    play(played)


@pytest.mark.parametrize("played", FALLING_BACK, ids=lambda played: played.__name__)
def test_what_cannot_be_compiled_is_run_as_it_is(played: Any) -> None:
    with pytest.warns(CompileWarning, match="run as it is from now on"):
        play(played)

"""Loss curves of compiled training, over 200 steps, are those of eager training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import wengert as wg
from examples.digits_layers import NETWORKS

STEPS = 200
BATCH = 32
EPS = float(np.finfo(np.float32).eps)
ROUNDINGS = 64
"""How often as large as that of one rounding of the first weights the difference may be that all later ones make."""


def batches() -> list[tuple[Any, Any]]:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = (digits.images / 16).astype(np.float32)
    rng = np.random.default_rng(0)
    chosen = [rng.integers(0, len(images), BATCH) for _ in range(STEPS)]
    return [(wg.tensor(images[rows]), wg.tensor(digits.target[rows])) for rows in chosen]


def curve(name: str, compiled: bool, nudge: float = 0.0) -> np.ndarray:
    wg.random.seed(0)
    network: Any = NETWORKS[name]()
    rng = np.random.default_rng(1)
    with wg.no_grad():
        for parameter in network.parameters():
            signs = rng.choice([-1.0, 1.0], parameter.shape).astype(np.float32)
            parameter.copy_(parameter * (1 + np.float32(nudge) * signs))
    optimizer = wg.optim.AdamW(network.parameters(), lr=1e-3)

    def step(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = wg.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    run = wg.compile(step) if compiled else step
    return np.array([run(images, labels).item() for images, labels in batches()])


@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_curves_are_eager_ones(name: str) -> None:
    eager, compiled = curve(name, False), curve(name, True)
    # How fast training drives nearby weights apart is found out by nudging them by one rounding: both ways, for one of
    # them may leave all maxima and signs as they are, where the other changes one that is nearly a tie.
    apart = np.maximum(*[np.abs(curve(name, False, nudge) - eager) for nudge in (EPS, -EPS)])
    drift = np.maximum.accumulate(apart)
    assert (np.abs(compiled - eager) <= ROUNDINGS * (drift + EPS * eager.max())).all()

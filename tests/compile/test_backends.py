"""Where no native code can be made, graphs are computed by NumPy, after one warning."""

from __future__ import annotations

import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent(
    """
    import sys, warnings
    sys.modules["llvmlite"] = None
    import numpy as np
    import wengert as wg

    weight = wg.tensor([1.0, -2.0], requires_grad=True)
    optimizer = wg.optim.SGD([weight], lr=0.25)

    @wg.compile
    def step(x):
        optimizer.zero_grad()
        loss = wg.sum((weight * x) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses = [step(wg.ones(2)).item() for _ in range(3)]
        other = wg.compile(lambda x: wg.sin(x) @ x)(wg.ones(3))
    assert losses == [5.0, 1.25, 0.3125], losses
    assert np.allclose(other.numpy(), 3 * np.sin(1.0))
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 1, messages
    assert "llvmlite" in messages[0] and "NumPy" in messages[0], messages
    assert not [name for name in sys.modules if name.startswith("llvmlite.")]
    """
)


def test_without_llvmlite_graphs_are_computed_by_numpy() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr

"""The demo keeps its promise, and the three styles of training agree to the last bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples import digits, digits_styles

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import json, sys
from examples import digits
runs = digits.main(sys.argv[1:])
print("\\n" + json.dumps([run.epochs[-1].accuracy for run in runs]))
"""


def demonstrate(directory: Path, *arguments: str) -> list[float]:
    """Run the demo in a process of its own, as it sets up NumPy's threads; return the accuracies."""
    paths = [str(ROOT), *(path for path in sys.path if path)]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str((directory / "digits.png").resolve()) in done.stdout.replace("\n", "")
    return json.loads(done.stdout.splitlines()[-1])


def test_each_of_three_seeds_gets_985_of_1000_held_out_scans_right(tmp_path: Path) -> None:
    accuracies = demonstrate(tmp_path)
    assert len(accuracies) == 3
    assert min(accuracies) >= 0.985
    assert (tmp_path / "digits.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_demo_repeats_itself(tmp_path: Path) -> None:
    first, second = (demonstrate(tmp_path, "--seeds", "5", "--epochs", "3") for _ in range(2))
    assert first == second
    assert first[0] > 0.8


def test_a_quarter_of_every_digit_is_held_out() -> None:
    split = digits.load_split()
    assert (len(split.train_labels), len(split.test_labels)) == (1347, 450)
    shares = np.bincount(split.test_labels) / np.bincount(np.concatenate([split.train_labels, split.test_labels]))
    assert np.abs(shares - 0.25).max() < 0.005
    assert split.train_images.max() == 1.0
    joined = {image.tobytes() for image in split.train_images} & {image.tobytes() for image in split.test_images}
    assert not joined


def test_distortions() -> None:
    rng = np.random.default_rng(0)
    images = digits.load_split().test_images[:20]
    still = digits.Settings(shift=0.0, rotation=0.0, scaling=0.0)
    np.testing.assert_allclose(digits.distort(images, still, rng), images, atol=1e-6)
    moved = digits.distort(images, digits.Settings(), rng)
    assert moved.dtype == np.float32
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6
    assert 0.01 < np.abs(moved - images).mean() < 0.2


@pytest.mark.parametrize("seed", [0, 1])
def test_three_styles_one_training(seed: int) -> None:
    losses = [train(seed, 40) for train in digits_styles.STYLES.values()]
    assert len(losses) == 3
    assert losses[0] == losses[1] == losses[2]
    assert losses[0][-1] < losses[0][0]

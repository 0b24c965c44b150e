"""Train a network on the handwritten digits that come with scikit-learn: 1797 scans of 8 x 8 pixels.

Three networks are trained, one for each of three seeds, on three quarters of the scans. They are judged on the other
quarter, which had no part in choosing any of the settings below. A picture shows how they learned, and where they err.

    python examples/digits.py                     # or: make demo
    python examples/digits.py --seeds 7 --epochs 20 --picture seven.png
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

# Matrices this small are not worth dividing among threads, which get in each other's way where cores are busy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import wengert as wg
from wengert import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Array = np.ndarray
SIDE = 8


@dataclass(frozen=True)
class Settings:
    """What was chosen, on a part of the training scans that was kept back for it."""

    epochs: int = 150
    batch_size: int = 128
    width: int = 256
    dropout: float = 0.2
    learning_rate: float = 6e-3
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    shift: float = 0.7
    rotation: float = 0.15
    scaling: float = 0.1


class Split(NamedTuple):
    """Scans with brightness from 0 to 1, and the digits that they show."""

    train_images: Array
    test_images: Array
    train_labels: Array
    test_labels: Array


@dataclass
class Epoch:
    """What one pass over the training scans came to."""

    loss: float
    accuracy: float
    scans_per_second: float


@dataclass
class Run:
    """One training: its seed, its epochs, and what the network says of the held-out scans."""

    seed: int
    epochs: list[Epoch] = field(default_factory=list)
    predictions: Array = field(default_factory=lambda: np.empty(0, int))


def load_split() -> Split:
    """Hold out a quarter of the scans, the same part of every digit."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    images = (digits.images / 16).astype(np.float32)
    return Split(*wg.data.train_test_split(images, digits.target, test_size=0.25, seed=0, stratify=digits.target))


def distort(images: Array, settings: Settings, rng: np.random.Generator) -> Array:
    """Shift, rotate and scale each scan a little at random: a digit stays what it is, and the network sees it anew."""
    count = len(images)
    angle = rng.uniform(-settings.rotation, settings.rotation, count)
    factor = np.exp(rng.uniform(-settings.scaling, settings.scaling, count))
    offset = rng.uniform(-settings.shift, settings.shift, (count, 1, 2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    centre = (SIDE - 1) / 2
    grid = np.stack(np.meshgrid(*[np.arange(SIDE) - centre] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    # Where each pixel of the result lies in the scan, which gets a dark margin of one pixel.
    place = np.clip(grid @ (turn * factor[:, None, None]) + offset + centre + 1, 0, SIDE + 0.999)
    corner = place.astype(int)
    row, column = np.moveaxis(corner, -1, 0)
    down, right = np.moveaxis((place - corner).astype(np.float32), -1, 0)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    scan = np.arange(count)[:, None]
    upper = padded[scan, row, column] * (1 - right) + padded[scan, row, column + 1] * right
    lower = padded[scan, row + 1, column] * (1 - right) + padded[scan, row + 1, column + 1] * right
    return (upper * (1 - down) + lower * down).reshape(images.shape)


def build_model(settings: Settings) -> nn.Sequential:
    """Two hidden layers, each with dropout."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(SIDE * SIDE, settings.width),
        nn.ReLU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.width, settings.width),
        nn.ReLU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.width, 10),
    )


def predict(model: nn.Module, images: Array) -> Array:
    """Return the digit that the network takes each scan for."""
    model.eval()
    with wg.no_grad():
        digits = model(wg.tensor(images)).argmax(axis=1).numpy()
    model.train()
    return digits


def train(split: Split, run: Run, settings: Settings) -> Iterator[Epoch]:
    """Train a network; record each epoch in the run, and yield it."""
    wg.random.seed(run.seed)
    rng = np.random.default_rng(run.seed)
    model = build_model(settings)
    optimizer = wg.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    loader = wg.data.DataLoader(
        (split.train_images, split.train_labels), settings.batch_size, shuffle=True, seed=run.seed
    )
    schedule = wg.optim.CosineAnnealingLR(optimizer, settings.epochs * len(loader))
    for _ in range(settings.epochs):
        total, start = 0.0, time.perf_counter()
        for images, labels in loader:
            distorted = wg.tensor(distort(images.numpy(), settings, rng))
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(distorted), labels, label_smoothing=settings.label_smoothing)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(labels)
        seconds = time.perf_counter() - start
        run.predictions = predict(model, split.test_images)
        accuracy = float((run.predictions == split.test_labels).mean())
        count = len(split.train_labels)
        run.epochs.append(Epoch(total / count, accuracy, count / seconds))
        yield run.epochs[-1]


def train_all(split: Split, seeds: Sequence[int], settings: Settings, console: Console) -> list[Run]:
    """Train one network for each seed, and show how it goes."""
    columns = (
        TextColumn("seed {task.fields[seed]}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("loss [bold]{task.fields[loss]:.3f}"),
        TextColumn("accuracy [bold green]{task.fields[accuracy]:.2%}"),
        TextColumn("{task.fields[speed]:,.0f} scans/s"),
        TimeElapsedColumn(),
    )
    runs = [Run(seed) for seed in seeds]
    with Progress(*columns, console=console) as progress:
        for run in runs:
            task = progress.add_task("", total=settings.epochs, seed=run.seed, loss=np.nan, accuracy=0.0, speed=0.0)
            for epoch in train(split, run, settings):
                progress.update(task, advance=1, loss=epoch.loss, accuracy=epoch.accuracy, speed=epoch.scans_per_second)
    return runs


# The picture


def draw(split: Split, runs: Sequence[Run], path: Path) -> None:
    """Draw how the networks learned, and the held-out scans that they got wrong."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style: Any = {
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#888888",
        "axes.grid": True,
        "grid.color": "#e6e6e6",
        "xtick.color": "#444444",
        "ytick.color": "#444444",
    }
    with plt.rc_context(style):
        figure: Any = plt.figure(figsize=(11, 5.6), layout="constrained")
        curves, mistakes = figure.subfigures(1, 2, width_ratios=(1.15, 1))
        _draw_curves(curves, runs)
        _draw_mistakes(mistakes, split, runs)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
        plt.close(figure)


def _draw_curves(figure: Any, runs: Sequence[Run]) -> None:
    colours = ("#1f5fa8", "#d1772b", "#3c8d5a", "#8a4fa3", "#7a7a7a")
    loss, accuracy = figure.subplots(2, 1, sharex=True)
    for i, run in enumerate(runs):
        numbers = np.arange(1, len(run.epochs) + 1)
        shares = [100 * epoch.accuracy for epoch in run.epochs]
        line = {"color": colours[i % len(colours)], "linewidth": 1.3}
        loss.plot(numbers, [epoch.loss for epoch in run.epochs], **line)
        accuracy.plot(numbers, shares, label=f"seed {run.seed}: {shares[-1]:.2f} % at the end", **line)
    loss.set(title="Loss on the training scans, distorted at random", ylabel="cross-entropy")
    accuracy.set(title="Accuracy on the held-out scans", xlabel="epoch", ylabel="right (%)", ylim=(95, 100.15))
    accuracy.set_xlim(0, max(len(run.epochs) for run in runs) + 1)
    accuracy.axhline(98.5, color="#888888", linewidth=1, linestyle=(0, (4, 3)))
    accuracy.legend(frameon=False, loc="lower right")


def _draw_mistakes(figure: Any, split: Split, runs: Sequence[Run], most: int = 12) -> None:
    wrong = np.stack([run.predictions != split.test_labels for run in runs])
    often = wrong.sum(0)
    scans = [int(scan) for scan in np.argsort(-often, kind="stable") if often[scan]]
    shown = scans[:most]
    title = "Mistakes: the digit it is → what it was taken for"
    more = f"\nthe {most} most frequent of {len(scans)}" if len(scans) > most else ""
    figure.suptitle(title + more, x=0.02, ha="left", fontsize=11, fontweight="bold")
    columns = 4 if len(shown) > 6 else 3
    rows = max(2, -(-len(shown) // columns))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for panel, scan in zip(panels, shown, strict=False):
        answers = sorted({int(run.predictions[scan]) for run, bad in zip(runs, wrong[:, scan], strict=True) if bad})
        panel.imshow(split.test_images[scan], cmap="gray_r", vmin=0, vmax=1)
        panel.set_title(f"{split.test_labels[scan]} → {', '.join(map(str, answers))}", loc="center")
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set(visible=True, color="#d4d4d4")
        note = f"{often[scan]} of {len(runs)} networks" if len(runs) > 1 else ""
        panel.text(0.5, -0.04, note, transform=panel.transAxes, ha="center", va="top", color="#666666", fontsize=9)
    if not scans:
        panels[0].text(0, 0.5, "none", color="#666666")


def summary(runs: Sequence[Run], held_out: int) -> Table:
    """Return the results as a table."""
    table = Table("seed", "right", "of", "accuracy", "scans/s", title="Held-out scans", title_justify="left")
    for run in runs:
        right = round(run.epochs[-1].accuracy * held_out)
        speed = float(np.median([epoch.scans_per_second for epoch in run.epochs]))
        table.add_row(str(run.seed), str(right), str(held_out), f"{right / held_out:.2%}", f"{speed:,.0f}")
    return table


def main(arguments: Sequence[str] | None = None) -> list[Run]:
    """Train, tell, and draw."""
    parser = argparse.ArgumentParser(description="Train a network on scikit-learn's handwritten digits.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one network is trained for each")
    parser.add_argument("--epochs", type=int, default=Settings.epochs, help="passes over the training scans")
    parser.add_argument("--picture", type=Path, default=Path("digits.png"), help="where the picture goes")
    options = parser.parse_args(arguments)
    console = Console()
    start = time.perf_counter()
    split = load_split()
    settings = Settings(epochs=options.epochs)
    console.print(f"{len(split.train_labels)} scans to train on, {len(split.test_labels)} held out\n")
    console.print(build_model(settings), "\n", highlight=False)
    runs = train_all(split, options.seeds, settings, console)
    console.print("\n", summary(runs, len(split.test_labels)))
    draw(split, runs, options.picture)
    console.print(f"\nThe picture is in [bold]{options.picture.resolve()}[/]. ", end="")
    console.print(f"All of it took {time.perf_counter() - start:.1f} s.", highlight=False)
    return runs


if __name__ == "__main__":
    main()

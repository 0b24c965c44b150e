"""The models of `benchmarks.models` as modules, for the libraries whose modules go by PyTorch's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.engines import NotOffered
from benchmarks.models import Convolutional, Model, Perceptron, Recurrent, Transformer

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Library:
    """Where a library has its modules and functions; `thirds` splits the last axis in three."""

    nn: Any
    thirds: Callable[[Any], Any]


def build(library: Library, work: Model) -> Any:
    """Return the module of a model, its parameters as they are drawn by the library.

    Raises NotOffered where the library lacks one of the layers.
    """
    try:
        return _MAKERS[type(work)](library, work)
    except AttributeError as error:
        raise NotOffered(str(error)) from error


def loss_of(library: Library, work: Model, module: Any, inputs: Any, labels: Any) -> Any:
    """Return the mean cross-entropy of a batch."""
    return library.nn.functional.cross_entropy(module(inputs).reshape(-1, work.classes), labels.reshape(-1))


def _perceptron(library: Library, work: Perceptron) -> Any:
    nn = library.nn
    layers: list[Any] = []
    for rows, columns in zip(work.sizes, work.sizes[1:], strict=False):
        layers += [nn.Linear(rows, columns), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _convolutional(library: Library, work: Convolutional) -> Any:
    nn = library.nn
    first, second, third = work.channels
    return nn.Sequential(
        *(nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(second, third, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(work.features, work.classes)),
    )


def _transformer(library: Library, work: Transformer) -> Any:
    nn, width = library.nn, work.width
    attention = nn.functional.scaled_dot_product_attention

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention_norm = nn.LayerNorm(width)
            self.query_key_value = nn.Linear(width, 3 * width)
            self.mix = nn.Linear(width, width)
            self.widening_norm = nn.LayerNorm(width)
            self.widen = nn.Linear(width, 4 * width)
            self.narrow = nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            batch, tokens, _ = x.shape
            by_head = (batch, tokens, work.heads, width // work.heads)
            thirds = library.thirds(self.query_key_value(self.attention_norm(x)))
            query, key, value = (third.reshape(by_head).swapaxes(1, 2) for third in thirds)
            mixed = attention(query, key, value, is_causal=True)
            x = x + self.mix(mixed.swapaxes(1, 2).reshape(x.shape))
            return x + self.narrow(nn.functional.gelu(self.widen(self.widening_norm(x))))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token_table = nn.Embedding(work.vocabulary, width)
            self.place_table = nn.Embedding(work.tokens, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(work.layers)))
            self.norm = nn.LayerNorm(width)
            self.head = nn.Linear(width, work.vocabulary, bias=False)

        def forward(self, tokens: Any) -> Any:
            return self.head(self.norm(self.blocks(self.token_table(tokens) + self.place_table.weight)))

    return Decoder()


def _recurrent(library: Library, work: Recurrent) -> Any:
    nn = library.nn

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.recurrence = nn.LSTM(work.width, work.hidden)
            self.head = nn.Linear(work.hidden, work.classes)

        def forward(self, sequence: Any) -> Any:
            outputs, _ = self.recurrence(sequence)
            return self.head(outputs[-1])

    return Classifier()


_MAKERS: dict[type[Model], Callable[[Library, Any], Any]] = {
    Perceptron: _perceptron,
    Convolutional: _convolutional,
    Transformer: _transformer,
    Recurrent: _recurrent,
}
MODELS = tuple(_MAKERS)

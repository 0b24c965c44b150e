"""The engines compared. Each module sets up any piece of work of `benchmarks.works` in the manner of its library."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.works import Job, Work


class NotInstalled(Exception):
    """The library that an engine needs is not there."""


@dataclass(frozen=True)
class Engine:
    """A library under measurement: its name in the table, that of its module here, and that to `import` and install."""

    title: str
    module: str
    library: str

    def demand(self) -> None:
        """Raise unless the library is there to be imported."""
        if importlib.util.find_spec(self.library) is None:
            raise NotInstalled(self.library)

    def build(self, work: Work) -> Job:
        """Set a piece of work up; the library is imported by the first call."""
        self.demand()
        module = importlib.import_module(f"benchmarks.engines.{self.module}")
        return module.build(work)


WENGERT = Engine("Wengert", "wengert_eager", "wengert")
PYTORCH = Engine("PyTorch", "pytorch_eager", "torch")
REFERENCES = (
    Engine("HIPS autograd", "hips_autograd", "autograd"),
    Engine("MyGrad", "mygrad_eager", "mygrad"),
    Engine("JAX (jit)", "jax_jit", "jax"),
)
ENGINES = {engine.module: engine for engine in (WENGERT, PYTORCH, *REFERENCES)}

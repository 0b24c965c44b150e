"""The engines compared. Each module sets up pieces of work of `benchmarks.works` in the manner of its library."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benchmarks.works import Job


class NotInstalled(Exception):
    """The library that an engine needs is not there."""


class NotOffered(Exception):
    """The library has nothing that does the work."""


@dataclass(frozen=True)
class Engine:
    """A library under measurement: its name in the table, that of its module here, and that to `import` and install.

    The module holds `BUILDERS`: for each kind of work that the library can do, a function that takes the work and
    returns Jobs, one for each way of writing it that a user of the library might choose; those of `benchmarks.compiled`
    make them one by one, as they are asked for. `is_narrow` says that factors of products are rounded to bfloat16.
    """

    title: str
    module: str
    library: str
    is_narrow: bool = False

    def demand(self) -> None:
        """Raise unless the library is there to be imported."""
        if importlib.util.find_spec(self.library) is None:
            raise NotInstalled(self.library)

    def ways(self, work: Any) -> list[Job]:
        """Set a piece of work up in every way; the library is imported by the first call."""
        return list(self._built(work))

    def build(self, work: Any) -> Job:
        """Set a piece of work up in the way that comes first."""
        return next(iter(self._built(work)))

    def _built(self, work: Any) -> Iterable[Job]:
        self.demand()
        builders = importlib.import_module(f"benchmarks.engines.{self.module}").BUILDERS
        if type(work) not in builders:
            raise NotOffered(f"{self.title}: {type(work).__name__}")
        return builders[type(work)](work)


WENGERT = Engine("Wengert", "wengert_eager", "wengert")
PYTORCH = Engine("PyTorch", "pytorch_eager", "torch")
TORCH_FUNC = Engine("torch.func", "pytorch_func", "torch")
HIPS = Engine("HIPS autograd", "hips_autograd", "autograd")
MYGRAD = Engine("MyGrad", "mygrad_eager", "mygrad")
JAX_EAGER = Engine("JAX (eager)", "jax_eager", "jax")
JAX_JIT = Engine("JAX (jit)", "jax_jit", "jax")
PYTORCH_STEPS = Engine("PyTorch", "pytorch_steps", "torch")
TORCH_COMPILE = Engine("torch.compile", "pytorch_compile", "torch")
JAX_STEPS = Engine("JAX (jit)", "jax_steps", "jax")
WENGERT_STEPS = Engine("Wengert (eager)", "wengert_steps", "wengert")
WENGERT_COMPILE = Engine("Wengert (compiled)", "wengert_compile", "wengert")
WENGERT_BFLOAT16 = Engine("Wengert (bfloat16)", "wengert_bfloat16", "wengert", is_narrow=True)
PYTORCH_AUTOCAST = Engine("PyTorch (autocast)", "pytorch_autocast", "torch", is_narrow=True)
ENGINES = {
    engine.module: engine
    for engine in (
        *(WENGERT, PYTORCH, TORCH_FUNC, HIPS, MYGRAD, JAX_EAGER, JAX_JIT),
        *(PYTORCH_STEPS, TORCH_COMPILE, JAX_STEPS, WENGERT_STEPS, WENGERT_COMPILE, WENGERT_BFLOAT16, PYTORCH_AUTOCAST),
    )
}

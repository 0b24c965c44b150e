"""Every exception class of the library, each naming the mistake and its cure; knows nothing of arrays."""

from __future__ import annotations


class WengertError(Exception):
    """Base class of all errors that Wengert raises on purpose."""


class DeclarationError(WengertError, TypeError):
    """An operation was declared incompletely or inconsistently; raised at import, never at run time."""


class GradientError(WengertError, RuntimeError):
    """A gradient was asked for in a way that has no answer (freed tape, missing seed, untracked target)."""


class RecomputationError(GradientError):
    """A checkpointed function did something else when it was run again, so its gradient would have been wrong."""


class ShapeError(WengertError, ValueError):
    """Shapes do not fit together; the message names the shapes and the operation."""


class StructureError(WengertError, ValueError):
    """Nested containers do not match, or lack an entry; the message names the place, such as `params['w'][0]`."""


class DTypeError(WengertError, TypeError):
    """A dtype cannot be used for what was asked."""


class NativeCodeError(WengertError, RuntimeError):
    """Native code can't be made here: llvmlite is missing, or knows no such processor."""


class NotDifferentiableError(WengertError, TypeError):
    """A derivative was asked of something that has none."""


class WrongRuleError(WengertError, ArithmeticError):
    """A rule of a user's own operation contradicts its other rule, or the numerical derivative of its forward."""


class BatchLoopWarning(UserWarning):
    """An operation without a batching rule was batched by a loop over the examples; raised once for each operation."""


class CheckpointError(WengertError, ValueError):
    """A file is not a checkpoint, or does not fit the object it is loaded into."""


class LeakedTracerError(WengertError, RuntimeError):
    """A tracer was used after the transform that made it had ended."""


class MappedValueError(WengertError, TypeError):
    """Python code, or a random number, would have to be one thing for all the examples that `vmap` maps over."""


class StepLimitError(WengertError, RuntimeError):
    """A loop was still going on after as many steps as it was allowed."""


__all__ = [
    "BatchLoopWarning",
    "CheckpointError",
    "DTypeError",
    "DeclarationError",
    "GradientError",
    "LeakedTracerError",
    "MappedValueError",
    "NativeCodeError",
    "NotDifferentiableError",
    "RecomputationError",
    "ShapeError",
    "StepLimitError",
    "StructureError",
    "WengertError",
    "WrongRuleError",
]

"""Wengert: automatic differentiation for Python, define-by-run, on a tape.

Ordinary NumPy-style code is recorded as it runs; the record is swept backwards with the chain rule. The gradient can be
asked for as `loss.backward()`, with a `GradientTape`, or as `grad(f)`: three faces of one engine.

>>> import wengert as wg
>>> x = wg.tensor([1.0, 2.0], requires_grad=True)
>>> wg.sum(x**2).backward()
>>> x.grad
Tensor([2., 4.], dtype=float32)
"""

from __future__ import annotations

import gc as _gc

# What is made during this import stays: collecting among it costs an eighth of the import's time and frees nothing.
_collecting = _gc.isenabled()
_gc.disable()

# ruff: noqa: E402
from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from . import errors as errors
from . import ops as _ops
from .config import get_default_dtype as get_default_dtype
from .config import set_default_dtype as set_default_dtype
from .core import native as _native
from .ops import *
from .tensor import Tensor as Tensor

if TYPE_CHECKING:
    from . import autograd as autograd
    from . import data as data
    from . import io as io
    from . import nn as nn
    from . import optim as optim
    from . import random as random
    from . import testing as testing
    from .compile.api import compile as compile
    from .core.native import set_eager_kernels as set_eager_kernels
    from .eager.grad_mode import enable_grad as enable_grad
    from .eager.grad_mode import is_grad_enabled as is_grad_enabled
    from .eager.grad_mode import no_grad as no_grad
    from .eager.grad_mode import set_grad_enabled as set_grad_enabled
    from .eager.gradient_tape import GradientTape as GradientTape
    from .eager.residual_hooks import saved_residuals_hooks as saved_residuals_hooks
    from .eager.residuals_on_disk import residuals_on_disk as residuals_on_disk
    from .transforms.branching import cond as cond
    from .transforms.checkpoint import checkpoint as checkpoint
    from .transforms.curvature import gauss_newton_vp as gauss_newton_vp
    from .transforms.curvature import hvp as hvp
    from .transforms.custom import primitive as primitive
    from .transforms.jacobians import hessian as hessian
    from .transforms.jacobians import jacfwd as jacfwd
    from .transforms.jacobians import jacobian as jacobian
    from .transforms.jacobians import jacrev as jacrev
    from .transforms.loops import fori_loop as fori_loop
    from .transforms.loops import scan as scan
    from .transforms.loops import while_loop as while_loop
    from .transforms.mapping import vmap as vmap
    from .transforms.pushing import jvp as jvp
    from .transforms.pushing import linearize as linearize
    from .transforms.reverse import grad as grad
    from .transforms.reverse import value_and_grad as value_and_grad
    from .transforms.reverse import vjp as vjp
    from .transforms.rule_checks import is_rule_checking as is_rule_checking
    from .transforms.rule_checks import set_rule_checking as set_rule_checking

# The two moves put all that was made here among the old, as a collection would, but without looking at it.
if not _gc.get_freeze_count():
    _gc.freeze()
    _gc.unfreeze()
if _collecting:
    _gc.enable()

__version__ = "0.1.0"


def _load_native_kernels() -> Any:
    return _import_module(".compile.eager_hooks", __name__)


_native.load = _load_native_kernels

tensor = _ops.tensor  # importing the module of that name had taken the name
# Python gives a package's name to the package when it is first imported: later, that would take `wg.compile` away.
_import_module(".compile", __name__)
del compile

_LAZY = ("autograd", "data", "io", "nn", "optim", "random", "testing")
_LAZY_NAMES = {
    "set_eager_kernels": ".core.native",
    "set_grad_enabled": ".eager.grad_mode",
    "no_grad": ".eager.grad_mode",
    "is_grad_enabled": ".eager.grad_mode",
    "enable_grad": ".eager.grad_mode",
    "GradientTape": ".eager.gradient_tape",
    "saved_residuals_hooks": ".eager.residual_hooks",
    "residuals_on_disk": ".eager.residuals_on_disk",
    "checkpoint": ".transforms.checkpoint",
    "is_rule_checking": ".transforms.rule_checks",
    "primitive": ".transforms.custom",
    "set_rule_checking": ".transforms.rule_checks",
    "grad": ".transforms.reverse",
    "cond": ".transforms.branching",
    "fori_loop": ".transforms.loops",
    "scan": ".transforms.loops",
    "while_loop": ".transforms.loops",
    "compile": ".compile.api",
    "gauss_newton_vp": ".transforms.curvature",
    "hessian": ".transforms.jacobians",
    "hvp": ".transforms.curvature",
    "jacfwd": ".transforms.jacobians",
    "jacobian": ".transforms.jacobians",
    "jacrev": ".transforms.jacobians",
    "jvp": ".transforms.pushing",
    "linearize": ".transforms.pushing",
    "vmap": ".transforms.mapping",
    "value_and_grad": ".transforms.reverse",
    "vjp": ".transforms.reverse",
}


def __getattr__(name: str) -> Any:
    """Import a subpackage when it is first used, so that `import wengert` stays as quick as `import numpy`."""
    if name in _LAZY:
        return _import_module(f".{name}", __name__)
    if name in _LAZY_NAMES:
        value = globals()[name] = getattr(_import_module(_LAZY_NAMES[name], __name__), name)
        return value
    raise AttributeError(f"module 'wengert' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LAZY_NAMES})


__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    *_ops.__all__,
    "GradientTape",
    "Tensor",
    "cond",
    "checkpoint",
    "compile",
    "enable_grad",
    "errors",
    "fori_loop",
    "gauss_newton_vp",
    "get_default_dtype",
    "grad",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "is_rule_checking",
    "jacfwd",
    "jacobian",
    "jacrev",
    "jvp",
    "linearize",
    "no_grad",
    "scan",
    "residuals_on_disk",
    "saved_residuals_hooks",
    "primitive",
    "set_default_dtype",
    "set_eager_kernels",
    "set_grad_enabled",
    "set_rule_checking",
    "value_and_grad",
    "vjp",
    "vmap",
    "while_loop",
    *_LAZY,
]

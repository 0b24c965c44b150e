"""The define-by-run faces of the engine: whether operations are recorded, and tapes for gradients of what was."""

from __future__ import annotations

from .grad_mode import enable_grad, is_grad_enabled, no_grad, set_grad_enabled
from .gradient_tape import GradientTape

__all__ = ["GradientTape", "enable_grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]

"""Checkpoints as safetensors files: no code in them, complete or absent, exact to the bit.

>>> import wengert as wg
>>> wg.io.save("model.safetensors", {"layer": {"weight": wg.ones(2)}, "step": 3})
>>> wg.io.load("model.safetensors")
{'layer': {'weight': Tensor([1., 1.], dtype=float32)}, 'step': 3}
"""

from __future__ import annotations

from .checkpoint import load as load
from .checkpoint import load_metadata as load_metadata
from .checkpoint import save as save

__all__ = ["load", "load_metadata", "save"]

"""The define-by-run faces of the engine: whether operations are recorded, and tapes for gradients of what was.

Nothing is imported here: `import wengert` takes the modes alone, and the tape when it is first asked for.
"""

"""The engine: primitives, the tape and its reverse sweep, tangents, batching. Knows no operation by name."""

"""The compiler: from recorded operations to native functions. `scalar_ir` is where every kernel's arithmetic is built."""

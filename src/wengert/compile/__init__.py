"""The compiler: from recorded operations to native functions; `scalar_ir` is where a kernel's arithmetic is built."""

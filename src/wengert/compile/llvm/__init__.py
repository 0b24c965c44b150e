"""Native code through LLVM: generators of kernels, the compiling of what they write, and programs that run it."""

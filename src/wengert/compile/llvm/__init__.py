"""Native code through LLVM: `emit` prints a kernel as LLVM IR, `runtime` compiles and calls it."""

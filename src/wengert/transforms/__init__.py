"""Functions of functions: gradients, pullbacks, on the same tape as everything else."""

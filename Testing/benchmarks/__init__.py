"""The benchmark (`make bench`): every goal of speed and memory beside what users would otherwise run."""

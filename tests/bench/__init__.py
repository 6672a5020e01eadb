"""Benchmarks: what the product does against a reference run beside it, as ratios. Started by `make bench`."""

"""Benchmarks: what the daemon costs, as figures and ratios of one run on one machine."""

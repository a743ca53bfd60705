"""Measurements, each a command that prints a table; docs/benchmarks.md keeps dated results."""

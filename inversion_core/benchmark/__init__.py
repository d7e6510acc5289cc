"""Measurements that docs/benchmarks/ reports."""

"""Measurements: each module is a command, `python -m hacontrol_benchmarks.measure.NAME`, that writes its figures."""

"""Numerical references that solutions call."""

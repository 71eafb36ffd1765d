"""Numerical methods that know no problem: kernels, chains, laws that move, Riccati equations, exact processes."""

"""Solvers of any problem with one or two states: the HJB equation and held actions on a grid."""

"""Certificates: statements, with confidence, of how far a policy can be from an optimum that is not known."""

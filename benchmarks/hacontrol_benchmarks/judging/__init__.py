"""How far a policy, a value or an equilibrium is from the truth."""

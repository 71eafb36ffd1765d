"""Tools of learning that know no problem: networks, derivatives, optimizers."""

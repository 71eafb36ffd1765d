"""Tools of learning without a subject: networks, derivatives, optimizers."""

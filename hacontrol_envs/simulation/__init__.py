"""A problem as a Gymnasium environment: steps, streams of random numbers, rows, pictures."""

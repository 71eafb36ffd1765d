"""Many firms and the price that clears the market for their output."""

"""Many households who save, and the prices that their capital makes."""

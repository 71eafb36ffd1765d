"""What tests share; and commands: house, notebooks, clients."""

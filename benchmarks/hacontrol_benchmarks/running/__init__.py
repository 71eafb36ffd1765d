"""Running tasks in processes of their own."""

"""Tasks, tried in processes of their own."""

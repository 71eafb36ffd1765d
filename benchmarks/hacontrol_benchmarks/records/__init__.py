"""What is written down: suites, tasks, results and where they come from."""

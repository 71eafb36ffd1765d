"""Records on disk: suites, tasks, results, and the code and machine they come from."""

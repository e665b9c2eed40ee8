"""Random programs over several interpreters, each run in a process of its own."""

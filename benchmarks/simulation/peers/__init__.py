"""Other simulators over the same workload, each a program for an environment of its own; see program.py."""

"""What tasks share that XLA compiles, whatever framework they are written in: a local step, and a cohort's round."""

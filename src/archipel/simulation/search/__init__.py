"""Search over a job's values by many simulations: what may be tried, what was tried, and who computes it."""

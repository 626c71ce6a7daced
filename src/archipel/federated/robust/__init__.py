"""Robust rules, one a file: what is put in the place of the mean, so that a few lying sites cannot bend the model."""

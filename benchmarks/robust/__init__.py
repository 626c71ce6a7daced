"""What robust rules cost beside np.median, and what is left of a model when a fifth of the sites lies."""

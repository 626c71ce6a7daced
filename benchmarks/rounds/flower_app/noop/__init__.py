"""A Flower app in which nothing is computed."""

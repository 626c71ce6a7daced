"""A year of flights from New York: sixteen airlines learn together which flights arrive late."""

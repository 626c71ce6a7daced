"""Models: the registry of versions with their lineage, and where each is to be served."""

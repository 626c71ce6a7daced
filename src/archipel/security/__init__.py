"""Keys, certificates and join tokens: who is who, and who may join."""

"""Plans beside their bounds."""

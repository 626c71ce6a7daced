"""What can be read back from an update: training rows, from a plain one, from a secure sum, and through noise."""

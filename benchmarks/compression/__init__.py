"""What compressed updates save, and what they cost."""

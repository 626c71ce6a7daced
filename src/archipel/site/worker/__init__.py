"""The worker: one RoundTask in, one Update out; inline for the simulation, as a warm process for a live site."""

"""Jobs and their runs: what is taken in, checked before anything is stored, and planned."""

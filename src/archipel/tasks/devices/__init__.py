"""Hardware: what there is, what it can do, and programs compiled for it. One file an adapter, one contract for all."""

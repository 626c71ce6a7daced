"""How many updates become one model: algorithms (init + apply) and the run's state machine; numpy only, no I/O."""

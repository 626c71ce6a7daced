"""The control plane remembers sites, jobs, runs, rounds and models. `api` over `services` over `store`."""

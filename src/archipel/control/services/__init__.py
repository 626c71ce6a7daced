"""What the control plane decides. Later stages know earlier ones: audit, accounts, sites, jobs and models, rounds."""

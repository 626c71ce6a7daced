"""A cohort over several processes of this machine: who computes what, and how it comes back in the clients' order."""

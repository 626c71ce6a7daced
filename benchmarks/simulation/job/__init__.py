"""The workloads as a user would write them: one job file, one task, plain torch models."""

"""What trust costs: secure sums, the sandbox, encryption at rest, the audit log, the account of epsilon."""

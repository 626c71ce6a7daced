"""What the control plane remembers: tables, migrations, transactions and the lock on them. Nothing is decided here."""

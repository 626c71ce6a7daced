"""Virtual clients: whose rows of one data set are whose, worked out for a client when it is asked."""

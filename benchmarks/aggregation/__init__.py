"""What one core spends on the weighted mean of 100 updates of 10 million parameters, beside what reading them costs."""

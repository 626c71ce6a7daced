"""Make the frameworks look alike: what a user's task is, and one folder a framework with its adapter."""

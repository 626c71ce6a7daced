"""Accounts: people and their roles, how they log in, how often they may ask, and what is noted of refusals."""

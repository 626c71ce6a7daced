"""Penguins of three islands: telling species apart where no island has seen them all."""

"""The report of a run: what it compares, what it holds (values), and how it is shown (screen, page, charts)."""

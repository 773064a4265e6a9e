"""Data sets of the literature, decoded from their published files."""

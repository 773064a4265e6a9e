"""Grids of runs: a sweep file names protocols, methods, options and seeds, and `harness sweep` runs what is missing."""

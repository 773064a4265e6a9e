"""The record of a run: what was run, on what, and what came out."""

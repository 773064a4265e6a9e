"""Data sets: cards (what is known of each), sources, the decoded cache, and stand-ins."""

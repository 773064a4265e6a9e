"""Leaderboards: records kept line by line, ranked, and rendered."""

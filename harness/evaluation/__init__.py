"""Scoring: the gate between methods and labels, scores with intervals, cost."""

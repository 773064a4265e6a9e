"""Protocols: models of the six kinds, loading, description in words, JSON Schema, feasibility."""

"""Layers shared by methods."""

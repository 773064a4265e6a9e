"""Tests of harness/api/."""

"""Tests of harness/tracking/."""

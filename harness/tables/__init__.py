"""Tables and figures of papers: what was measured here beside what was printed there."""

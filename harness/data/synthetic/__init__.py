"""Stand-in data sets, generated from integers alone."""

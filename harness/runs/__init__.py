"""One run from a request to its record, in a folder of its own."""

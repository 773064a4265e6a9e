"""The public Python API: what the command line does, as calls that take names or objects."""

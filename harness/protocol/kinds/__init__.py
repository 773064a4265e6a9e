"""The models of the kinds, one module a kind (both streams are in one), each with its description in words."""

"""Methods that cheat, grouped by how, and honest methods that do nearly the same without gaining by it."""

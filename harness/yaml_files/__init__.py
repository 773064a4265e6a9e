"""Protocol and recipe files as text: YAML without surprises, and errors that name their line."""

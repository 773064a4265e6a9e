"""What the rest stands on and what knows nothing of the field: errors, files, random bits, seeding, signals."""

"""Training: recipes, objectives, the loop, features trained once."""

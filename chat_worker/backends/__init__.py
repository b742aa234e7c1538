"""What runs a model's arithmetic; only an engine process's entry imports from here, lazily."""

"""A model's life: who may use it, when it is loaded and unloaded, what happens when that fails."""

"""Downloads models from hubs into the models folder, and deletes them from it.

It runs in a process of its own, which a command or the gateway starts (`python -m downloads`).
"""

"""The parts of run.py: .venv, the lock, the package indexes, and the development commands.

Standard library only, because it runs before anything is installed.
"""

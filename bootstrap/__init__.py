"""What run.py is made of: .venv, the lock, the package indexes, and the development commands.

Standard library only: it runs before anything is installed.
"""

"""One parser for each family of notations, behind one Protocol (`parser.py`)."""

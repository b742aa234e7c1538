"""One reader for each way in which calls are written, behind one Protocol (`parser.py`)."""

"""Other forms of models, made once and kept in a folder of the user."""

"""The error for a model file that cannot be used."""


class InvalidModelFile(ValueError):
    """The file is not what its name says, or its header is wrong; str() is the reason."""

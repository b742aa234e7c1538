"""What reading a model file's header can end in."""


class InvalidModelFile(ValueError):
    """The file is not what its name says, or lies about its contents; str() is the reason."""

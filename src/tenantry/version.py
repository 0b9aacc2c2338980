"""The version of the software, as the server tells it to clients."""

__version__ = "0.1.0"

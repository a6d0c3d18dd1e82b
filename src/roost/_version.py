"""The version of the framework, where every layer may read it: agents tell it to others."""

__version__ = "0.1.0"

"""The Stratos node: value layer, meta service layer, resource layer and the client SDK, in one import package."""

__version__ = "0.2.0"

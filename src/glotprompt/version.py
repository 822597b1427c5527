"""The version, in the one place where it stands; below every room, so that each may name it."""

__version__ = "0.2.0"
FINGERPRINTS = {"mini": "8ccdf49fd012f689", "mini-sentence": "342d454845771607"}
"""Of the bundled backbones (`Backbone.fingerprint`), to be named without loading them; a test compares."""

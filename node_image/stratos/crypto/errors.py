"""The one error family of `stratos.crypto`."""


class CryptoError(ValueError):
    """A key, name, address, signature or proof from outside is malformed; the text is one sentence with the fix."""

"""Takes secrets out of text that leaves the controller. Two nets: every secret we know, and everything that looks like one.

The key ring knows every secret there is (protocol 2), so each is searched for in all the forms in which software prints bytes: hex in both cases, base64
in both alphabets, and the list of numbers. The second net catches what the ring does not know: private key blocks, and values under keys whose
names say what they are. What is replaced is counted, because a log that needed it is a defect of its own.
"""

from __future__ import annotations

import base64
import re

from orchestrator.plan.keys import KeyRing

MARK = b"[REDACTED]"
_BLOCK = rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)"
_NAMED = (
    rb'(?i)(["\']?[a-z_\-]*(?:secret|password|passphrase|private_key|node_seed|mnemonic|api_token|vault_pass)[a-z_\-]*["\']?'
    rb'\s*[:=]\s*)("[^"\n]*"|\'[^\'\n]*\'|[^\s,}"\']+)'
)


class Redactor:
    """Replaces secrets in bytes; `count` is how many there were."""

    def __init__(self, ring: KeyRing) -> None:
        self.count = 0
        forms = {form for secret in secrets_of(ring) for form in forms_of(secret)}
        known = b"|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        self._known = re.compile(known) if known else None
        self._block = re.compile(_BLOCK, re.DOTALL)
        self._named = re.compile(_NAMED)

    def clean(self, text: bytes) -> bytes:
        """The text without secrets."""
        if self._known is not None:
            text, count = self._known.subn(MARK, text)
            self.count += count
        text, count = self._block.subn(MARK, text)
        self.count += count
        text, count = self._named.subn(rb'\1"' + MARK + b'"', text)
        self.count += count
        return text


def secrets_of(ring: KeyRing) -> list[bytes]:
    """Every secret of the ring, as bytes."""
    texts = [*ring.wallets.values(), *([ring.coordinator] if ring.coordinator else [])]
    for node in ring.nodes.values():
        texts += [node.node_seed, node.owner_secret]
    return [bytes.fromhex(text) for text in texts]


def forms_of(secret: bytes) -> list[bytes]:
    """How software prints these bytes."""
    plain, url = base64.b64encode(secret), base64.urlsafe_b64encode(secret)
    numbers = ", ".join(str(byte) for byte in secret)
    return [
        secret,
        secret.hex().encode(),
        secret.hex().upper().encode(),
        plain.rstrip(b"="),
        url.rstrip(b"="),
        numbers.encode(),
        numbers.replace(", ", ",").encode(),
    ]

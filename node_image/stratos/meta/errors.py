"""The one error family of the meta layer's log: a code for programs, one sentence with the fix for people.

A refused entry leaves the state as it was and is never ordered; a refused receipt inside a batch earns nothing. Codes:
`invalid` malformed or contradicting itself; `signature` wrong or by the wrong key; `window` too old or from the future;
`nonce` seen before; `funds` not enough ozone; `session`, `upload`, `file`, `slice`, `node`, `action` unknown or closed; `expired`;
`holders` too few nodes; `copies` too few durable copies; `duplicate`; `authority` not one; `chain` the bridge's proof is wrong;
`order` not the next chain height; `epoch` wrong epoch; receipts: `unsigned`, `late`, `early`, `unassigned`, `replayed`,
`inflated`, `digest`, `allowance`, `self_traffic`, `disputed`.
"""


class MetaError(Exception):
    """An entry or receipt that the log refuses."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{code}: {sentence}")
        self.code = code
        self.sentence = sentence


class InvariantBroken(RuntimeError):
    """The state contradicts itself (ozone not conserved): the block is invalid, and a node that holds it must stop."""

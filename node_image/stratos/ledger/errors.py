"""Why the ledger refuses: one exception, one code from a closed list, one sentence.

The codes are part of the interface (`ledger replay`, transaction results, the bridge to the meta layer), so scripts
and the meta layer act on them; the sentence is for people and names the wrong value and the fix.
"""

EPOCH = "epoch"
ZERO_VOLUME = "zero_volume"
OZONE_LIMIT = "ozone_limit"
QUORUM = "quorum"
FUNDS = "funds"
IMMATURE = "immature"
UNBONDING = "unbonding"
UNKNOWN = "unknown"
DUPLICATE = "duplicate"
EXPIRED = "expired"
INVALID = "invalid"
SEQUENCE = "sequence"
SIGNATURE = "signature"
FEE = "fee"

CODES = frozenset(
    {
        EPOCH,
        ZERO_VOLUME,
        OZONE_LIMIT,
        QUORUM,
        FUNDS,
        IMMATURE,
        UNBONDING,
        UNKNOWN,
        DUPLICATE,
        EXPIRED,
        INVALID,
        SEQUENCE,
        SIGNATURE,
        FEE,
    }
)


class LedgerError(Exception):
    """A message was refused; the state is as if it had never been sent.

    `authorised` says that a quorum of authorities stood behind the refused message, which makes the refusal news for
    the meta layer; junk from anybody else must never look like it.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.authorised = False

"""What a quorum of meta authorities has signed (protocol 1, 6).

An action or report carries one signature per authority over the message without signatures. Strictly, only distinct,
valid signatures of registered active meta nodes count and floor(2n/3) + 1 of them are needed. For reports the public
network's rule can be chosen instead: max(1, floor(2n/3)) signatures, keys not looked at.
"""

from stratos.bft.quorum import quorum
from stratos.crypto.keys import verify_node
from stratos.crypto.signing import sign_bytes
from stratos.ledger import register
from stratos.ledger.errors import QUORUM, LedgerError
from stratos.ledger.rules import Rules
from stratos.state import Reader
from stratos.wire.txs import TAG_ACTION, ActionMessage, VolumeReport, action_body


def require_quorum(reader: Reader, rules: Rules, message: ActionMessage, genesis_hash: bytes) -> None:
    """Refuse a message that too few authorities have signed; LedgerError(quorum)."""
    active = {node.address: node for node in register.active_meta(reader)}
    if isinstance(message, VolumeReport) and not rules.strict_report_quorum:
        needed = max(1, 2 * len(active) // 3)
        _require(len(message.signatures), needed, len(active))
        return
    needed = quorum(len(active))
    claimed = {signature.authority for signature in message.signatures if signature.authority in active}
    _require(len(claimed), needed, len(active))
    signed = sign_bytes(TAG_ACTION, genesis_hash, action_body(message))
    valid: set[bytes] = set()
    for signature in message.signatures:
        authority = active.get(signature.authority)
        if authority is None or authority.address in valid:
            continue
        if verify_node(authority.public_key, signed, signature.signature):
            valid.add(authority.address)
    _require(len(valid), needed, len(active))


def _require(signatures: int, needed: int, active: int) -> None:
    if signatures < needed:
        raise LedgerError(
            QUORUM,
            f"{signatures} signatures of active meta nodes count and {needed} of {active} are needed; collect more",
        )

"""Which bytes belong to a handle, proven: an index answer counts only with the meta layer's certificate.

A meta node tells a file's slices with the record in the replicated state, the proof of it and a header signed by more than
two thirds of the authorities that follow from the genesis file. So no single meta node can pass other bytes off as a
file; from there on the slices' digests vouch for every piece.
"""

from stratos.resource.tokens import AuthorityTrust, TokenError, file_key, prove
from stratos.wire.metarpc import FileAnswer


def file_doubt(trust: AuthorityTrust, wallet: bytes, file_cid: bytes, answer: FileAnswer) -> str:
    """Why `answer` does not prove what the file `file_cid` of `wallet` consists of; "" when it does."""
    stored = answer.stored
    if stored is None or answer.evidence is None:
        return "it tells a file without its proof"
    try:
        prove(trust.check(answer.evidence), file_key(wallet, file_cid), stored, answer.proof)
    except TokenError as error:
        return error.sentence
    if tuple(placed.spec.digest for placed in answer.slices) != stored.digests:
        return "it tells other slices than the file's"
    record = stored.record
    if not record.video and not record.tag and sum(placed.spec.length for placed in answer.slices) != record.size:
        return "it tells other lengths than the file's"
    return ""

"""Light client: from the genesis validator set to any header, with records instead of a node's word.

A header is believed when more than two thirds of a validator set that is already believed signed it. The believed set
moves only over `ValidatorChange` records: a signed header whose `next_validators_hash` names another set, together with
that set. So the proof for any height is the list of changes before it (few) and one signed header, and whoever hands
them over cannot cheat: a left-out change shows as a wrong `validators_hash`.
"""

from collections.abc import Iterable

from stratos.bft.blocks import header_hash
from stratos.bft.certificate import CertificateError, verify_commit
from stratos.bft.signing import Verifier
from stratos.bft.validator_set import ValidatorSet
from stratos.wire.block import HEADER_VERSION, Commit, Header, ValidatorChange


class LightClientError(ValueError):
    """A header or change that the trusted validators do not vouch for."""


class LightClient:
    """Trust in one layer's validator set, moving forward by checked records. Pure: no network, no clock."""

    def __init__(self, *, layer: str, genesis_hash: bytes, validators: ValidatorSet, verify: Verifier) -> None:
        self.validators = validators
        """The set believed now."""
        self.height = 0
        """Height of the last change followed; headers below or at it can no longer be checked."""
        self._layer = layer
        self._genesis_hash = genesis_hash
        self._verify = verify

    def check(self, header: Header, commit: Commit) -> bytes:
        """The block hash of a header signed by the believed set; raises LightClientError otherwise."""
        if header.version != HEADER_VERSION:
            raise LightClientError(f"header version {header.version} is unknown here; update this program")
        if header.layer != self._layer or header.genesis_hash != self._genesis_hash:
            raise LightClientError(
                f"header is of layer {header.layer} of network {header.genesis_hash.hex()[:16]}, "
                f"not {self._layer} of {self._genesis_hash.hex()[:16]}; use the genesis file of that network"
            )
        if header.height <= self.height:
            raise LightClientError(
                f"header {header.height} is not after {self.height}, where trust stands; start from genesis again"
            )
        if header.validators_hash != self.validators.hash:
            raise LightClientError(
                f"header {header.height} has validators {header.validators_hash.hex()[:16]}, believed are "
                f"{self.validators.hash.hex()[:16]}; a validator change between them is missing"
            )
        block_hash = header_hash(header)
        try:
            verify_commit(
                block_hash,
                commit,
                self.validators,
                height=header.height,
                genesis_hash=self._genesis_hash,
                layer=self._layer,
                verify=self._verify,
            )
        except CertificateError as error:
            raise LightClientError(f"header {header.height}: {error}") from error
        return block_hash

    def follow(self, changes: Iterable[ValidatorChange]) -> None:
        """Move trust over validator changes, in order of height."""
        for change in changes:
            self.check(change.header, change.commit)
            successors = ValidatorSet(change.next_validators)
            if successors.hash != change.header.next_validators_hash:
                raise LightClientError(
                    f"change at {change.header.height} carries validators {successors.hash.hex()[:16]}, its header "
                    f"announces {change.header.next_validators_hash.hex()[:16]}; ask another node"
                )
            self.validators = successors
            self.height = change.header.height

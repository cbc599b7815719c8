"""The bridge: what happened on the chain enters the log, one entry per height, proven (protocol 1).

Every meta node checks header and certificate against the validator set it tracks, and the events against the header's
root, so no authority can invent a credit. Heights are strictly consecutive and the first valid entry of a height wins;
later ones are refused without harm. The same handlers take the events of the ledger's genesis.
"""

from collections.abc import Callable, Mapping

from msgspec import structs

from stratos.bft.blocks import header_hash
from stratos.bft.certificate import CertificateError, verify_commit
from stratos.bft.validator_set import ValidatorSet, ValidatorSetError
from stratos.ledger.events import (
    ACTION_INCLUDED,
    ACTION_REFUSED,
    DEPOSIT_ADDED,
    EFFECTIVE_DEPOSIT,
    META_ADMITTED,
    META_CREATED,
    META_REMOVED,
    OZONE_BOUGHT,
    REPAIR_CREDITED,
    REPORT_INCLUDED,
    REPORT_REFUSED,
    RESOURCE_CREATED,
    SUSPENDED,
    UNBONDED,
    UNBONDING,
    UNSUSPENDED,
    attributes,
)
from stratos.ledger.roots import bridge_root
from stratos.meta import epochs, holders, outbox, ozone
from stratos.meta.context import BlockContext
from stratos.meta.errors import MetaError
from stratos.meta.rooms import AUTHORITY, CHAIN_HEIGHT, CHAIN_VALIDATORS, HOLDER, Authority, Holder
from stratos.state import Branch, Reader
from stratos.wire.block import HEADER_VERSION, Event, Validator, ValidatorList
from stratos.wire.codec import decode, encode
from stratos.wire.metalog import ChainBlock

VALUE_LAYER = "value"
Attributes = Mapping[str, str]


def chain_validators(reader: Reader) -> ValidatorSet:
    """The chain's voters of the next height the log wants."""
    data = CHAIN_VALIDATORS.get(reader, b"")
    return ValidatorSet(decode(data or b"", ValidatorList))


def set_chain_validators(branch: Branch, validators: tuple[Validator, ...]) -> None:
    """Track these voters from now on."""
    CHAIN_VALIDATORS.set(branch, b"", encode(validators))


def chain_block(branch: Branch, context: BlockContext, author: bytes, body: ChainBlock) -> None:
    """Check one chain block and apply its events."""
    authority = AUTHORITY.get(branch, author)
    if authority is None or not authority.active:
        raise MetaError("authority", f"{author.hex()} is not an active meta node; chain blocks come from authorities")
    header = body.header
    expected = CHAIN_HEIGHT.get(branch) + 1
    if header.height != expected:
        raise MetaError("order", f"chain block {header.height} came where {expected} is next")
    if header.version != HEADER_VERSION or header.layer != VALUE_LAYER or header.genesis_hash != context.genesis_hash:
        raise MetaError("chain", f"header {header.height} is of another network, layer or version")
    validators = chain_validators(branch)
    if header.validators_hash != validators.hash:
        raise MetaError(
            "chain",
            f"header {header.height} names voters {header.validators_hash.hex()[:16]}, tracked are {validators.hash.hex()[:16]}",
        )
    try:
        verify_commit(
            header_hash(header),
            body.commit,
            validators,
            height=header.height,
            genesis_hash=context.genesis_hash,
            layer=VALUE_LAYER,
            verify=context.verify,
        )
    except CertificateError as error:
        raise MetaError("chain", f"chain block {header.height}: {error}") from error
    if bridge_root(body.events) != header.bridge_root:
        raise MetaError(
            "chain", f"the events of chain block {header.height} are not those in its header; ask another validator"
        )
    if header.next_validators_hash != header.validators_hash:
        try:
            successors = ValidatorSet(body.next_validators)
        except ValidatorSetError as error:
            raise MetaError("chain", f"the next voters of chain block {header.height}: {error}") from error
        if successors.hash != header.next_validators_hash:
            raise MetaError("chain", f"the next voters of chain block {header.height} are not those its header names")
        set_chain_validators(branch, successors.validators)
    elif body.next_validators:
        raise MetaError("chain", f"chain block {header.height} changes no voters but lists some; leave them out")
    CHAIN_HEIGHT.set(branch, b"", header.height)
    for event in body.events:
        apply_event(branch, context, event)


def apply_event(branch: Branch, context: BlockContext, event: Event) -> None:
    """Apply one bridge event; kinds that do not concern the log are passed over."""
    handler = _HANDLERS.get(event.kind)
    if handler is not None:
        handler(branch, context, attributes(event))


def _ozone_bought(branch: Branch, _context: BlockContext, about: Attributes) -> None:
    ozone.credit(branch, bytes.fromhex(about["beneficiary"]), int(about["noz"]))


def _repair_credited(branch: Branch, _context: BlockContext, about: Attributes) -> None:
    ozone.credit_repair(branch, int(about["noz"]))


def _resource_created(branch: Branch, context: BlockContext, about: Attributes) -> None:
    address = bytes.fromhex(about["node"])
    if HOLDER.get(branch, address) is not None:
        holders.unregister(branch, address)
    holders.register(
        branch,
        Holder(
            address=address,
            public_key=bytes.fromhex(about["public_key"]),
            owner=bytes.fromhex(about["owner"]),
            beneficiary=bytes.fromhex(about["beneficiary"]),
            host=about["host"],
            name=about["name"],
            network_address=about["network_address"],
            deposit_wei=about["deposit"],
            effective_wei="0",
            suspended=True,
            unbonding=False,
            removed=False,
            status="suspended",
            score=context.params.score_start,
            disk_free=0,
            disk_used=0,
            slices=0,
            maintenance=False,
            degraded="",
            last_status_ms=0,
            seen_ms=0,
            lost_ms=0,
            repairing=False,
            left=False,
        ),
    )


def _deposit_added(branch: Branch, _context: BlockContext, about: Attributes) -> None:
    holder = HOLDER.get(branch, bytes.fromhex(about["node"]))
    if holder is not None:
        HOLDER.set(branch, holder.address, structs.replace(holder, deposit_wei=about["deposit"]))


def _effective_deposit(branch: Branch, context: BlockContext, about: Attributes) -> None:
    _change(branch, context, about, effective_wei=about["amount"], suspended=False)


def _suspended(branch: Branch, context: BlockContext, about: Attributes) -> None:
    _change(branch, context, about, suspended=True)


def _unsuspended(branch: Branch, context: BlockContext, about: Attributes) -> None:
    _change(branch, context, about, suspended=False, effective_wei=about["amount"])


def _unbonding(branch: Branch, context: BlockContext, about: Attributes) -> None:
    _change(branch, context, about, unbonding=True, suspended=True, repairing=True, lost_ms=context.witness_ms)


def _unbonded(branch: Branch, context: BlockContext, about: Attributes) -> None:
    _change(branch, context, about, removed=True, repairing=True)


def _change(branch: Branch, context: BlockContext, about: Attributes, **facts: object) -> None:
    holder = HOLDER.get(branch, bytes.fromhex(about["node"]))
    if holder is not None:
        holders.put(branch, context, structs.replace(holder, **facts))


def _meta_created(branch: Branch, _context: BlockContext, about: Attributes) -> None:
    address = bytes.fromhex(about["node"])
    AUTHORITY.set(
        branch,
        address,
        Authority(
            address,
            bytes.fromhex(about["public_key"]),
            bytes.fromhex(about["owner"]),
            bytes.fromhex(about["beneficiary"]),
            about["name"],
            about["network_address"],
            False,
            0,
        ),
    )


def _meta_admitted(branch: Branch, context: BlockContext, about: Attributes) -> None:
    authority = AUTHORITY.get(branch, bytes.fromhex(about["node"]))
    if authority is not None:
        AUTHORITY.set(branch, authority.address, structs.replace(authority, active=True, since_epoch=context.epoch))


def _meta_removed(branch: Branch, _context: BlockContext, about: Attributes) -> None:
    authority = AUTHORITY.get(branch, bytes.fromhex(about["node"]))
    if authority is not None:
        AUTHORITY.set(branch, authority.address, structs.replace(authority, active=False))


def _report_included(branch: Branch, context: BlockContext, about: Attributes) -> None:
    epochs.report_included(branch, context, int(about["epoch"]))


def _report_refused(branch: Branch, context: BlockContext, about: Attributes) -> None:
    epochs.report_refused(branch, context, int(about["epoch"]), about["code"])


def _action_included(branch: Branch, context: BlockContext, about: Attributes) -> None:
    outbox.resolve(branch, context, int(about["action_id"]), "included")


def _action_refused(branch: Branch, context: BlockContext, about: Attributes) -> None:
    outbox.resolve(branch, context, int(about["action_id"]), about["code"])


_HANDLERS: dict[str, Callable[[Branch, BlockContext, Attributes], None]] = {
    OZONE_BOUGHT: _ozone_bought,
    REPAIR_CREDITED: _repair_credited,
    RESOURCE_CREATED: _resource_created,
    DEPOSIT_ADDED: _deposit_added,
    EFFECTIVE_DEPOSIT: _effective_deposit,
    SUSPENDED: _suspended,
    UNSUSPENDED: _unsuspended,
    UNBONDING: _unbonding,
    UNBONDED: _unbonded,
    META_CREATED: _meta_created,
    META_ADMITTED: _meta_admitted,
    META_REMOVED: _meta_removed,
    REPORT_INCLUDED: _report_included,
    REPORT_REFUSED: _report_refused,
    ACTION_INCLUDED: _action_included,
    ACTION_REFUSED: _action_refused,
}

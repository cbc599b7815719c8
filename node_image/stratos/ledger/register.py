"""The register of resource and meta nodes: deposits, activation, suspension, unbonding (protocol 6).

Both roles share one record; a node's address decides which room it lies in, and one key cannot have both roles. A
deposit is locked in the deposits pool until its release date; `effective_wei` is the part that counts in S. A bonded
resource node has an effective deposit exactly while it is not suspended; a suspended one remembers what to restore. A
record survives its release (status unbonded, deposit 0), and the key may then register again. Release dates are a
queue served at the beginning of a block, so that money due on a day can be used on that day.
"""

from collections.abc import Iterator
from itertools import islice

from msgspec import Struct, structs

from stratos.crypto.keys import node_address, verify_node
from stratos.crypto.signing import sign_bytes
from stratos.ledger import bank, sds
from stratos.ledger.context import BlockContext
from stratos.ledger.errors import DUPLICATE, INVALID, UNKNOWN, LedgerError
from stratos.ledger.errors import UNBONDING as UNBONDING_CODE
from stratos.ledger.events import (
    DEPOSIT_ADDED,
    EFFECTIVE_DEPOSIT,
    META_REMOVED,
    RESOURCE_CREATED,
    SUSPENDED,
    UNBONDED,
    UNBONDING,
    UNSUSPENDED,
    event,
)
from stratos.ledger.rewards import settle_debt
from stratos.ledger.rules import Rules
from stratos.state import AmountTable, Branch, Reader, Table
from stratos.wire.block import Event
from stratos.wire.genesis import GenesisNode
from stratos.wire.limits import MAX_DUE_PER_BLOCK
from stratos.wire.scalars import Address, Amount, Ed25519Public, Name, TimeMs
from stratos.wire.txs import (
    TAG_NODE,
    AddDeposit,
    CreateMetaNode,
    CreateResourceNode,
    SetEffectiveDeposit,
    Suspend,
    Unsuspend,
    registration_body,
)

BONDED = "bonded"
LEAVING = "unbonding"
GONE = "unbonded"


class Node(Struct, frozen=True, kw_only=True):
    """A registered node. A meta candidate is `unbonded` with a deposit, and suspended, until it is admitted."""

    address: Address
    public_key: Ed25519Public
    owner: Address
    beneficiary: Address
    deposit_wei: Amount
    effective_wei: Amount = "0"
    restored_wei: Amount = "0"
    """What `unsuspend` makes effective again."""
    status: str = BONDED
    suspended: bool = True
    left: bool = False
    """Whether a `leave` was settled in this membership."""
    created_ms: TimeMs
    release_ms: TimeMs = 0
    name: Name = ""
    host: Name = ""
    network_address: Name = ""

    @property
    def deposit(self) -> int:
        """Locked wei."""
        return int(self.deposit_wei)

    @property
    def effective(self) -> int:
        """Wei of the deposit that count in S."""
        return int(self.effective_wei)

    @property
    def active(self) -> bool:
        """Bonded and not suspended: a voting authority, or a provider that gets tasks."""
        return self.status == BONDED and not self.suspended


RESOURCE = Table(b"register/resource/", Node)
META = Table(b"register/meta/", Node)
RESOURCE_DEPOSITS = AmountTable(b"register/resource_deposits")
META_DEPOSITS = AmountTable(b"register/meta_deposits")
_RELEASES = b"register/release/"


def find(reader: Reader, address: bytes) -> tuple[Table[Node], Node]:
    """The node and the table it lies in; LedgerError(unknown) when nobody registered it."""
    for table in (RESOURCE, META):
        node = table.get(reader, address)
        if node is not None:
            return table, node
    raise LedgerError(UNKNOWN, f"node {address.hex()} is not registered; create it first")


def resource(reader: Reader, address: bytes) -> Node:
    """The resource node; LedgerError(unknown or invalid) when there is none."""
    table, node = find(reader, address)
    if table is not RESOURCE:
        raise LedgerError(INVALID, f"{address.hex()} is a meta node; this message is for resource nodes")
    return node


def owner_of(reader: Reader, address: bytes) -> bytes | None:
    """Owner of a registered node of either role, or None."""
    node = RESOURCE.get(reader, address) or META.get(reader, address)
    return None if node is None else node.owner


def active_meta(reader: Reader) -> list[Node]:
    """Bonded, active meta nodes by address."""
    return [node for _, node in META.items(reader) if node.active]


def put(state: Branch, table: Table[Node], node: Node) -> None:
    """Store a node and keep the deposit totals."""
    before = table.get(state, node.address)
    total = RESOURCE_DEPOSITS if table is RESOURCE else META_DEPOSITS
    total.add(state, b"", node.deposit - (before.deposit if before is not None else 0))
    table.set(state, node.address, node)


def genesis_node(state: Branch, table: Table[Node], of: GenesisNode, time_ms: int) -> Node:
    """A node that exists from genesis; its deposit is new supply. Meta nodes are active."""
    address = node_address(of.node_public_key)
    _require_free(state, address)
    effective = of.deposit_wei if table is META else of.effective_wei
    if int(effective) > int(of.deposit_wei):
        raise LedgerError(INVALID, f"node {of.name or address.hex()}: effective {effective} is over its deposit")
    node = Node(
        address=address,
        public_key=of.node_public_key,
        owner=bank.recipient_wallet(of.owner),
        beneficiary=bank.recipient_wallet(of.beneficiary),
        deposit_wei=of.deposit_wei,
        effective_wei=effective,
        suspended=table is RESOURCE and effective == "0",
        created_ms=time_ms,
        name=of.name,
        host=of.host,
        network_address=of.network_address,
    )
    bank.mint(state, bank.DEPOSITS, node.deposit)
    put(state, table, node)
    return node


def create(
    state: Branch,
    table: Table[Node],
    sender: bytes,
    message: CreateResourceNode | CreateMetaNode,
    *,
    time_ms: int,
    genesis_hash: bytes,
) -> Node:
    """Lock the deposit and register the node, suspended; checks that the node's key agreed to this owner."""
    address = node_address(message.node_public_key)
    _require_free(state, address)
    signed = sign_bytes(TAG_NODE, genesis_hash, registration_body(sender, message))
    if not verify_node(message.node_public_key, signed, message.node_signature):
        raise LedgerError(
            INVALID, f"the node key of {address.hex()} did not sign this registration; sign it with node.key"
        )
    deposit = bank.positive(message.deposit_wei, "the deposit")
    bank.move(state, sender, bank.DEPOSITS, deposit)
    node = Node(
        address=address,
        public_key=message.node_public_key,
        owner=sender,
        beneficiary=bank.recipient_wallet(message.beneficiary),
        deposit_wei=message.deposit_wei,
        status=BONDED if table is RESOURCE else GONE,
        created_ms=time_ms,
        name=message.name,
        host=message.host,
        network_address=message.network_address,
    )
    put(state, table, node)
    return node


def handle_create_resource(
    state: Branch, rules: Rules, sender: bytes, message: CreateResourceNode, context: BlockContext, genesis_hash: bytes
) -> list[Event]:
    """Register a resource node: bonded, suspended, nothing effective."""
    if int(message.deposit_wei) < rules.min_deposit_wei:
        raise LedgerError(
            INVALID,
            f"a deposit of {message.deposit_wei} wei is below the minimum of {rules.min_deposit_wei}; deposit more",
        )
    node = create(state, RESOURCE, sender, message, time_ms=context.time_ms, genesis_hash=genesis_hash)
    return [created_event(RESOURCE_CREATED, node)]


def created_event(kind: str, node: Node) -> Event:
    """`resource_created` or `meta_created`, with all that the meta layer must know of a node."""
    return event(
        kind,
        node=node.address,
        public_key=node.public_key,
        owner=node.owner,
        beneficiary=node.beneficiary,
        host=node.host,
        network_address=node.network_address,
        name=node.name,
        deposit=node.deposit,
    )


def handle_add_deposit(state: Branch, rules: Rules, sender: bytes, message: AddDeposit) -> list[Event]:
    """Grow a deposit; that of an active meta node is effective at once (protocol 6: deposits only grow)."""
    table, node = find(state, message.node)
    require_owner(node, sender)
    amount = bank.positive(message.amount_wei, "the added deposit")
    if node.status == LEAVING:
        raise LedgerError(UNBONDING_CODE, f"node {node.address.hex()} is unbonding; its deposit can no longer grow")
    if node.status == GONE and node.deposit == 0:
        raise LedgerError(UNKNOWN, f"node {node.address.hex()} is no longer registered; create it again")
    bank.move(state, sender, bank.DEPOSITS, amount)
    node = structs.replace(node, deposit_wei=str(node.deposit + amount))
    if table is META and node.active:
        node = structs.replace(node, effective_wei=node.deposit_wei)
        sds.make_effective(state, rules, amount)
    put(state, table, node)
    return [event(DEPOSIT_ADDED, node=node.address, amount=amount, deposit=node.deposit)]


def handle_set_effective(state: Branch, rules: Rules, message: SetEffectiveDeposit) -> list[Event]:
    """Make a part of a resource node's deposit effective and lift its suspension (protocol 6)."""
    node = resource(state, message.node)
    amount = bank.positive(message.amount_wei, "the effective deposit")
    _require_bonded(node)
    if amount > node.deposit:
        raise LedgerError(
            INVALID, f"an effective deposit of {amount} wei is over the deposit of {node.deposit}; use at most that"
        )
    change = amount - node.effective
    if change > 0:
        sds.make_effective(state, rules, change)
    elif change < 0:
        sds.make_ineffective(state, rules, -change)
    was_suspended = node.suspended
    node = structs.replace(node, effective_wei=str(amount), restored_wei="0", suspended=False, left=False)
    put(state, RESOURCE, node)
    events = [event(EFFECTIVE_DEPOSIT, node=node.address, amount=amount)]
    if was_suspended:
        events.append(event(UNSUSPENDED, node=node.address, amount=amount))
    return events


def handle_suspend(state: Branch, rules: Rules, message: Suspend) -> list[Event]:
    """Take a resource node out of work; its effective deposit becomes 0."""
    node = resource(state, message.node)
    _require_bonded(node)
    if node.suspended:
        raise LedgerError(INVALID, f"node {node.address.hex()} is already suspended; nothing to do")
    return suspend(state, rules, node)[1]


def suspend(state: Branch, rules: Rules, node: Node) -> tuple[Node, list[Event]]:
    """Suspend a bonded node; S and L fall by what was effective. A suspended node stays as it is."""
    if node.suspended:
        return node, []
    sds.make_ineffective(state, rules, node.effective)
    node = structs.replace(node, suspended=True, effective_wei="0", restored_wei=node.effective_wei)
    put(state, RESOURCE, node)
    return node, [event(SUSPENDED, node=node.address)]


def handle_unsuspend(state: Branch, rules: Rules, message: Unsuspend) -> list[Event]:
    """Give a suspended resource node its former effective deposit back."""
    node = resource(state, message.node)
    _require_bonded(node)
    restored = min(int(node.restored_wei), node.deposit)
    if not node.suspended or restored == 0:
        reason = (
            "was never activated, use set_effective_deposit" if node.suspended else "is not suspended, nothing to do"
        )
        raise LedgerError(INVALID, f"node {node.address.hex()} {reason}")
    sds.make_effective(state, rules, restored)
    put(state, RESOURCE, structs.replace(node, suspended=False, effective_wei=str(restored), restored_wei="0"))
    return [event(UNSUSPENDED, node=node.address, amount=restored)]


def unbond_resource(state: Branch, rules: Rules, node: Node, context: BlockContext) -> list[Event]:
    """Start unbonding a resource node: it is suspended first, so S and L fall (protocol 6)."""
    _require_bonded(node)
    node, events = suspend(state, rules, node)
    return events + start_unbonding(state, rules, RESOURCE, node, release_date(rules, node, context.time_ms))


def release_date(rules: Rules, node: Node, now_ms: int) -> int:
    """When a bonded node that asks now gets its deposit back: day 150 -> 194, day 190 -> 204 (protocol 6)."""
    threshold = node.created_ms + rules.node_threshold_ms
    return max(threshold, now_ms) + rules.node_unbonding_ms


def start_unbonding(state: Branch, rules: Rules, table: Table[Node], node: Node, release_ms: int) -> list[Event]:
    """Make nothing effective, lock the deposit until `release_ms`."""
    if node.effective > 0:
        sds.make_ineffective(state, rules, node.effective)
    node = structs.replace(
        node, status=LEAVING, suspended=True, effective_wei="0", restored_wei="0", release_ms=release_ms
    )
    put(state, table, node)
    state.set(_RELEASES + release_ms.to_bytes(8, "big") + node.address, b"")
    return [event(UNBONDING, node=node.address, release_ms=release_ms, deposit=node.deposit)]


def release_due(state: Branch, context: BlockContext) -> list[Event]:
    """Return the deposits whose date has come, oldest first, debts of the owner first; many go on in the next block."""
    events: list[Event] = []
    for key, _ in list(islice(_due(state, context.time_ms), MAX_DUE_PER_BLOCK)):
        state.delete(key)
        table, node = find(state, key[-20:])
        left = settle_debt(state, node.owner, bank.DEPOSITS, node.deposit)
        bank.move(state, bank.DEPOSITS, node.owner, left)
        put(state, table, structs.replace(node, status=GONE, deposit_wei="0", suspended=True))
        events.append(event(UNBONDED, node=node.address, amount=left, slashed=node.deposit - left))
        if table is META:
            events.append(event(META_REMOVED, node=node.address, reason="released"))
    return events


def _due(reader: Reader, now_ms: int) -> Iterator[tuple[bytes, bytes]]:
    start = len(_RELEASES)
    for key, value in reader.items(_RELEASES):
        if int.from_bytes(key[start : start + 8], "big") > now_ms:
            return
        yield key, value


def require_owner(node: Node, sender: bytes) -> None:
    """Refuse a message about a node that does not come from its owner."""
    if node.owner != sender:
        raise LedgerError(
            INVALID, f"{sender.hex()} does not own node {node.address.hex()}; its owner is {node.owner.hex()}"
        )


def _require_bonded(node: Node) -> None:
    if node.status == LEAVING:
        raise LedgerError(UNBONDING_CODE, f"node {node.address.hex()} is unbonding; this is no longer possible")
    if node.status == GONE:
        raise LedgerError(UNKNOWN, f"node {node.address.hex()} is no longer registered; create it again")


def _require_free(reader: Reader, address: bytes) -> None:
    for table in (RESOURCE, META):
        node = table.get(reader, address)
        if node is not None and (node.status != GONE or node.deposit > 0):
            raise LedgerError(DUPLICATE, f"node {address.hex()} is already registered; use another node key")

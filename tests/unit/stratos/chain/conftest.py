"""Builders for the value layer without processes: keys, genesis, an application on memory, signed transactions."""

from types import SimpleNamespace
from typing import Any

import pytest

from stratos.bft.blocks import header_hash
from stratos.bft.events import BlockTemplate
from stratos.bft.height import genesis_tip
from stratos.bft.signing import vote_bytes
from stratos.bft.validator_set import ValidatorSet
from stratos.chain.admission import Rejected, check_tx
from stratos.chain.application import ChainApplication
from stratos.chain.mempool import CheckedTx, Mempool
from stratos.chain.store import ChainStore
from stratos.crypto.keys import NodeKey, WalletKey
from stratos.ledger import bank, staking
from stratos.ledger.machine import Ledger
from stratos.ledger.rulebook import NEWEST_RULES
from stratos.ledger.signing import sign_tx
from stratos.state import State
from stratos.wire.block import EMPTY_COMMIT, PRECOMMIT, Block, Commit, PrecommitSignature
from stratos.wire.codec import encode
from stratos.wire.genesis import Genesis, GenesisAccount, GenesisNode, GenesisValidator
from stratos.wire.txs import Message

STOS = 10**18
WALLETS = [WalletKey.from_secret((77_000 + index).to_bytes(32, "big")) for index in range(6)]
NODES = [NodeKey.from_seed(bytes([90 + index]) * 32) for index in range(4)]
META = NodeKey.from_seed(b"\x42" * 32)
GENESIS = Genesis(
    network="unit",
    time_ms=1_700_000_000_000,
    accounts=tuple(GenesisAccount(address=wallet.address, balance_wei=str(1_000 * STOS)) for wallet in WALLETS),
    validators=tuple(
        GenesisValidator(operator=WALLETS[0].address, node_public_key=node.public_key, stake_wei=str(100 * STOS))
        for node in NODES
    ),
    meta_nodes=(
        GenesisNode(
            owner=WALLETS[0].address,
            beneficiary=WALLETS[0].address,
            node_public_key=META.public_key,
            deposit_wei=str(100 * STOS),
        ),
    ),
)
LEDGER = Ledger(GENESIS)


def checked(wallet: int, message: Message, sequence: int) -> CheckedTx:
    """A signed and checked transaction."""
    raw = encode(sign_tx(WALLETS[wallet], message, sequence=sequence, genesis_hash=LEDGER.genesis_hash))
    found = check_tx(raw, LEDGER.genesis_hash)
    assert not isinstance(found, Rejected)
    return found


class Chain:
    """One application on a state in memory; `step` commits one block signed by all four validators."""

    def __init__(self, state: State | None = None, *, newest_rules: int = NEWEST_RULES) -> None:
        ledger = Ledger(GENESIS, newest_rules=newest_rules)
        self.state = State() if state is None else state
        self.store = ChainStore(self.state, genesis_hash=LEDGER.genesis_hash)
        if self.store.is_new:
            branch = self.state.fork()
            events = LEDGER.init_genesis(branch)
            self.state.commit(
                branch, 0, self.store.genesis_records(ValidatorSet(staking.voters(branch)), events, height=0)
            )
        self.tip = self.store.tip() or genesis_tip(
            time_ms=GENESIS.time_ms, initial_height=1, validators=ValidatorSet(staking.voters(self.state))
        )
        self.mempool = Mempool()
        self.application = ChainApplication(
            ledger=ledger,
            state=self.state,
            store=self.store,
            tip=self.tip,
            mempool=self.mempool,
            max_block_bytes=1 << 20,
        )
        self.last_commit = self.tip.commit if self.tip.height else EMPTY_COMMIT

    def add(self, *txs: CheckedTx) -> None:
        """Put transactions into the mempool."""
        for tx in txs:
            self.mempool.add(tx, account_sequence=bank.sequence(self.state, tx.sender), now=0.0)

    def template(self, **changes: Any) -> BlockTemplate:
        """What consensus would ask for next."""
        application = self.application
        proposer = application.next_voters.proposer(application.height + 1, 0)
        fields = {
            "layer": "value",
            "genesis_hash": LEDGER.genesis_hash,
            "height": application.height + 1,
            "time_ms": application.time_ms + 1_000,
            "previous_hash": application.block_hash,
            "last_commit": self.last_commit,
            "validators_hash": application.next_voters.hash,
            "next_validators_hash": application._latest_set.hash,
            "proposer": proposer.address,
        }
        return BlockTemplate(**{**fields, **changes})

    def certify(self, block: Block) -> Commit:
        """A certificate of all four."""
        validators = self.application.next_voters
        keys = {node.address: node for node in NODES}
        message = vote_bytes(
            LEDGER.genesis_hash,
            layer="value",
            kind=PRECOMMIT,
            height=block.header.height,
            round_number=0,
            block_hash=header_hash(block.header),
        )
        signatures = tuple(
            PrecommitSignature(index, keys[validator.address].sign(message))
            for index, validator in enumerate(validators)
        )
        return Commit(block.header.height, 0, header_hash(block.header), signatures)

    def commit(self, block: Block, commit: Commit) -> None:
        """Make a block final here."""
        self.application.commit(block, commit)
        self.last_commit = commit

    def step(self, *txs: CheckedTx) -> Block:
        """Propose and commit a block with these transactions."""
        self.add(*txs)
        block = self.application.propose(self.template())
        self.commit(block, self.certify(block))
        return block


@pytest.fixture(scope="session")
def builders() -> Any:
    """Everything above, for tests (test modules cannot import a conftest)."""
    return SimpleNamespace(Chain=Chain, checked=checked, WALLETS=WALLETS, NODES=NODES, GENESIS=GENESIS, LEDGER=LEDGER)

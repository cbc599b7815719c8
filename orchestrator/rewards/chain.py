"""The chain's ledger: its blocks turned into history for the oracle, its reports with what was paid for them.

Every block is read, from the first to the newest, because the oracle starts from genesis and carries its own figures
forward. Messages are taken from the blocks themselves (a report's rows are what authorities signed), outcomes from the
results, payouts from REST. Nothing is recomputed here.
"""

from collections.abc import Iterator
from typing import Protocol, TypeVar

from msgspec import Struct

from orchestrator.audit.book import Book
from orchestrator.audit.evidence import Paid, ReportedRow, SettledEpoch
from orchestrator.audit.history import Step
from orchestrator.chain_api import ChainApi
from stratos.bft.blocks import entries_root
from stratos.crypto import bech32
from stratos.crypto.keys import node_address
from stratos.wire.block import CommittedBlock, Event
from stratos.wire.chainrpc import MAX_BRIDGE_BLOCKS, BlockResults, BridgeBlocks, GetBlock, GetBridge, GetResults
from stratos.wire.codec import decode
from stratos.wire.genesis import Genesis
from stratos.wire.txs import Tx, VolumeReport

R = TypeVar("R", bound=Struct)
EMPTY_ENTRIES = entries_root(())


class Validators(Protocol):
    """Who answers about the chain (`stratos.client.observer.Observer`)."""

    def ask_validator(self, request: Struct, kind: type[R]) -> R: ...


class IncludedReport(Struct, frozen=True):
    """A volume report in a block."""

    height: int
    message: VolumeReport


class BlockFacts(Struct, frozen=True):
    """What one block did: events of its accepted transactions and of its end, reports it included."""

    height: int
    time_ms: int
    events: tuple[Event, ...]
    reports: tuple[IncludedReport, ...]


def read_blocks(chain: Validators, *, first: int = 1) -> Iterator[BlockFacts]:
    """Blocks from `first` to the newest, in order; headers in batches, bodies only of blocks that have entries."""
    while True:
        blocks = chain.ask_validator(GetBridge(first, MAX_BRIDGE_BLOCKS, 0), BridgeBlocks).blocks
        if not blocks:
            return
        for told in blocks:
            if told.header.entries_root == EMPTY_ENTRIES:
                # Events of a block's end alone mature rewards and return deposits; neither backs nor prices ozone.
                yield BlockFacts(told.header.height, told.header.time_ms, (), ())
            else:
                yield _read_block(chain, told.header.height)
        first += len(blocks)


def _read_block(chain: Validators, height: int) -> BlockFacts:
    block = chain.ask_validator(GetBlock(height), CommittedBlock).block
    results = chain.ask_validator(GetResults(height), BlockResults)
    events: list[Event] = []
    reports = []
    for entry, result in zip(block.entries, results.results, strict=True):
        if result.code != "ok":
            continue
        events += result.events
        message = decode(entry, Tx).body.message
        if isinstance(message, VolumeReport):
            reports.append(IncludedReport(height, message))
    return BlockFacts(height, block.header.time_ms, (*events, *results.end_events), tuple(reports))


class ChainLedger:
    """History and reports, as the chain tells them."""

    def __init__(self, genesis: Genesis, chain: Validators, api: ChainApi) -> None:
        self.book = Book(genesis)
        """The register as it is after the last `history`."""
        self._genesis = genesis
        self.reports: dict[int, IncludedReport] = {}
        self.names: dict[bytes, str] = {}
        self.keys: dict[bytes, bytes] = {}
        self.height = 0
        self._blocks: list[BlockFacts] = []
        self._api = api
        for node in (*genesis.meta_nodes, *genesis.resource_nodes):
            self._note(node.node_public_key, node.name)
        for validator in genesis.validators:
            self._note(validator.node_public_key, validator.name)
        for block in read_blocks(chain):
            self.height = block.height
            self._blocks.append(block)
            for report in block.reports:
                self.reports[report.message.epoch] = report
            for event in block.events:
                if event.kind in ("resource_created", "meta_created"):
                    told = dict(event.attributes)
                    self._note(bytes.fromhex(told["public_key"]), told["name"])

    def name(self, address: bytes) -> str:
        """The name of a node, else its address as people see it."""
        return self.names.get(address) or bech32.encode(bech32.NODE, address)

    def history(self, epochs: dict[int, SettledEpoch]) -> list[Step]:
        """Steps for the oracle; `epochs` are the settled ones with their receipts."""
        self.book = Book(self._genesis)
        steps = list(self.book.opening())
        for block in self._blocks:
            settled = {
                report.message.epoch: (epochs[report.message.epoch], frozenset(report.message.withheld))
                for report in block.reports
            }
            steps += self.book.follow(block.height, block.events, settled)
        return steps

    def paid(self, epoch: int) -> tuple[Paid, ...]:
        """What the chain says it paid for an epoch, by wallet."""
        told = self._api.get(f"/stratos/pot/v1/rewards/epoch/{epoch}")
        return tuple(
            Paid(bech32.decode(bech32.WALLET, one["wallet"]), int(one["mining"]), int(one["traffic"]))
            for one in told["rewards"]
        )

    def settled(self, epoch: int, *, rows: tuple[ReportedRow, ...], leaves: int) -> SettledEpoch:
        """A report with its payouts and the receipts that were found behind its rows."""
        return SettledEpoch(epoch, self.reports[epoch].height, rows, leaves, self.paid(epoch))

    def _note(self, public_key: bytes, name: str) -> None:
        address = node_address(public_key)
        self.keys[address] = public_key
        self.names[address] = name

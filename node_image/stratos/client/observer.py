"""Looking at a network from outside: what its validators and meta nodes say, with nothing to prove and nothing to pay.

`Observer` asks as a client with a throw-away key (guests are answered slowly), over blocking connections that are kept
and made again when they break. A question goes to one named node or to the first of a layer that answers. Everything
here is a statement of the node asked; whoever needs proof checks headers and state proofs against the genesis file.
"""

import threading
import time
from types import TracebackType
from typing import TypeVar

from msgspec import Struct

from stratos.client.errors import BadInput, Environment, Refused, Unreachable
from stratos.client.records import Endpoints
from stratos.crypto.keys import NodeKey
from stratos.net.blocking import BlockingRpcClient
from stratos.net.peers import RpcError, RpcRefused
from stratos.wire.chainrpc import ChainStatus, GetChainStatus
from stratos.wire.config import ConfigError, split_endpoint
from stratos.wire.genesis import Genesis, genesis_hash
from stratos.wire.rpc import CLASS_CLIENT

R = TypeVar("R", bound=Struct)
CALL_SECONDS = 10.0
_RETRIED = frozenset({"busy", "rate", "too_many_requests"})
_PAUSE_SECONDS = 0.05


class Observer:
    """Asks nodes of one network. Thread-safe: one connection per node, used in turn."""

    def __init__(self, genesis: Genesis, endpoints: Endpoints, *, timeout_seconds: float = CALL_SECONDS) -> None:
        self.genesis = genesis
        self.genesis_hash = genesis_hash(genesis)
        self.endpoints = endpoints
        self._timeout = timeout_seconds
        self._identity = NodeKey.generate()
        self._validators = {
            node.name: (node.p2p, bytes.fromhex(node.public_key) if node.public_key else None)
            for node in endpoints.validators
        }
        self._meta = {node.name: (node.rpc, bytes.fromhex(node.public_key)) for node in endpoints.meta}
        self._links: dict[str, BlockingRpcClient] = {}
        self._lock = threading.Lock()

    @property
    def validators(self) -> tuple[str, ...]:
        """Names of the validators that can be asked."""
        return tuple(self._validators)

    @property
    def meta_nodes(self) -> tuple[str, ...]:
        """Names of the meta nodes that can be asked."""
        return tuple(self._meta)

    def ask(self, node: str, request: Struct, kind: type[R]) -> R:
        """The answer of one node; raises Refused when it refuses, Unreachable when it does not answer."""
        deadline = time.monotonic() + self._timeout
        stale = node in self._links
        while True:
            try:
                return self._link(node).call(request, kind, timeout_seconds=self._timeout)
            except RpcRefused as error:
                if error.code not in _RETRIED or time.monotonic() > deadline:
                    raise Refused(f"{node}: {error.sentence}", error.code) from error
                time.sleep(_PAUSE_SECONDS)
            except RpcError as error:
                self._drop(node)
                if not stale:
                    raise Unreachable(f"{node} did not answer: {error}") from error
                stale = False  # an idle connection may have been closed by the node: once more on a new one

    def ask_validator(self, request: Struct, kind: type[R]) -> R:
        """The answer of the first validator that gives one."""
        return self._first(self.validators, request, kind)

    def ask_meta(self, request: Struct, kind: type[R]) -> R:
        """The answer of the first meta node that gives one."""
        return self._first(self.meta_nodes, request, kind)

    def chain_status(self) -> ChainStatus:
        """Where the chain is."""
        return self.ask_validator(GetChainStatus(), ChainStatus)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            links, self._links = list(self._links.values()), {}
        for link in links:
            link.close()

    def __enter__(self) -> "Observer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _first(self, names: tuple[str, ...], request: Struct, kind: type[R]) -> R:
        if not names:
            raise Environment("the endpoints file names no node of this layer; run `stratosctl up` first")
        failure: Unreachable | None = None
        for name in names:
            try:
                return self.ask(name, request, kind)
            except Unreachable as error:
                failure = error
        raise Unreachable(f"none of {', '.join(names)} answered ({failure}); look at `stratosctl status`")

    def _link(self, node: str) -> BlockingRpcClient:
        with self._lock:
            link = self._links.get(node)
            if link is not None and not link.closed:
                return link
        where, key = self._validators.get(node) or self._meta.get(node) or (None, None)
        if where is None:
            raise BadInput(
                f"{node!r} is no validator or meta node of this network; its nodes are {', '.join(self._all())}"
            )
        try:
            host, port = split_endpoint(where)
        except ConfigError as error:
            raise BadInput(str(error)) from error
        link = BlockingRpcClient(
            host,
            port,
            expected_key=key,
            identity=self._identity,
            peer_class=CLASS_CLIENT,
            genesis_hash=self.genesis_hash,
            timeout_seconds=self._timeout,
        )
        with self._lock:
            self._links[node] = link
        return link

    def _drop(self, node: str) -> None:
        with self._lock:
            link = self._links.pop(node, None)
        if link is not None:
            link.close()

    def _all(self) -> tuple[str, ...]:
        return (*self.validators, *self.meta_nodes)

"""The meta nodes that a resource node can ask, kept current: the config names those of the day it was written.

Authorities come and go; a holder that only ever asked the ones it was configured with would be cut off one day. So now and
then it asks who they are and where they answer, and adds those that the light client, from genesis on, says are authorities.
"""

import threading

import structlog

from stratos.net.endpoints import usable_endpoint
from stratos.net.peers import RpcRefused
from stratos.resource.metalink import MetaEndpoint, MetaLink, MetaUnreachable
from stratos.resource.tokens import AuthorityTrust, TokenError
from stratos.wire.peersrpc import GetPeers, Peers

FIRST_LOOK_SECONDS = 2.0
LOOK_SECONDS = 20.0

_log = structlog.get_logger("stratos.resource.entry_points")


def learn_entry_points(meta: MetaLink, trust: AuthorityTrust, *, own_host: str) -> int:
    """Ask once; how many meta nodes are new. Whatever goes wrong is tried again another time."""
    try:
        told = meta.call(GetPeers(), Peers, deadline_seconds=5.0)
        authorities = {authority.public_key for authority in trust.current()}
    except (RpcRefused, MetaUnreachable, TokenError) as error:
        _log.debug("authorities not asked", reason=str(error))
        return 0
    found = [
        MetaEndpoint(peer.public_key.hex()[:12], peer.network_address, peer.public_key)
        for peer in told.peers
        if peer.public_key in authorities and usable_endpoint(peer.network_address, own_host=own_host) is not None
    ]
    return meta.learn(found)


def keep_entry_points(meta: MetaLink, trust: AuthorityTrust, *, own_host: str, stop: threading.Event) -> None:
    """A thread's body: ask now and then until told to stop."""
    pause = FIRST_LOOK_SECONDS
    while not stop.wait(pause):
        pause = LOOK_SECONDS
        if learned := learn_entry_points(meta, trust, own_host=own_host):
            _log.info("meta nodes learned", count=learned)

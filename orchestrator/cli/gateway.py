"""`stratosctl gateway`: a local HTTP server from which any player or browser reads what is stored in the network."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from orchestrator.cli.exit_codes import OK
from orchestrator.cli.parsing import whole_number
from orchestrator.cli.storage import opened, storage_parser
from orchestrator.cli.termination import sigterm_interrupts
from orchestrator.errors import BadInput, EnvironmentFault

if TYPE_CHECKING:
    from stratos.client.gateway import Gateway

EXAMPLES = """  stratosctl gateway
  stratosctl gateway --port 8080 sdm://st1.../v.../film.mp4
  mpv http://127.0.0.1:8090/st1.../v.../index.m3u8
"""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def main(argv: list[str]) -> int:
    """Run the command until it is interrupted; the exit code."""
    options = _options(argv)
    from stratos.client.gateway import Gateway  # after parsing: --help must be quick
    from stratos.wire.limits import MIB

    if options.host not in _LOOPBACK and not options.anyone_may_spend:
        raise BadInput(
            f"--host {options.host} would let everybody who reaches it spend this wallet's ozone; add --anyone-may-spend "
            "if that is wanted"
        )
    with opened(options) as client:
        try:
            gateway = Gateway(client, host=options.host, port=options.port, cache_bytes=options.cache_mib * MIB)
        except OSError as error:
            raise EnvironmentFault(
                f"port {options.port} of {options.host} cannot be used ({error.strerror}); choose another with --port"
            ) from error
        try:
            with sigterm_interrupts():
                _announce(gateway, options)
                gateway.serve()
        except KeyboardInterrupt:
            pass
        finally:
            gateway.stop()
    return OK


def _announce(gateway: Gateway, options: argparse.Namespace) -> None:
    videos = {handle: gateway.video_url(handle) for handle in options.handles}
    if options.json:
        print(json.dumps({"url": gateway.url, "videos": videos}), flush=True)
        return
    print(f"gateway: {gateway.url}/<wallet>/<cid>/index.m3u8 and {gateway.url}/file/<wallet>/<cid>", flush=True)
    for url in videos.values():
        print(f"play {url}", flush=True)
    print(f"Ctrl-C ends it; reads are paid from wallet {options.wallet}", file=sys.stderr)


def _options(argv: list[str]) -> argparse.Namespace:
    command = storage_parser(
        "gateway", "Serve playlists, segments and files to any player, verified and prefetched.", examples=EXAMPLES
    )
    command.add_argument("handles", nargs="*", metavar="HANDLE", help="videos whose addresses to print")
    command.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    command.add_argument(
        "--port", type=whole_number(0, 65_535), default=8090, help="port (default 8090; 0 chooses one)"
    )
    command.add_argument(
        "--cache-mib", type=whole_number(1, 65_536), default=256, help="segments kept in memory (default 256)"
    )
    command.add_argument("--anyone-may-spend", action="store_true", help="allow a --host that others can reach")
    return command.parse_args(argv)

"""What people read from a meta node over HTTP: nodes, epochs, the ozone sheet.

Amounts are JSON strings, addresses bech32. Everything is from committed state; programs use the RPC, which has proofs.
"""

from typing import Any

from aiohttp import web

from stratos.crypto import bech32
from stratos.meta import ozone
from stratos.meta.application import MetaApplication
from stratos.meta.holders import all_holders, host_of
from stratos.meta.index import held_slices
from stratos.meta.machine import get_clock
from stratos.meta.monitor import cooling_off_left_ms
from stratos.meta.outbox import authorities
from stratos.meta.reads import MetaReads
from stratos.meta.rooms import HISTORY, REMOVED, REPORT, UNBONDING
from stratos.net.http import Refusal, json_response


def _wallet(address: bytes) -> str:
    return bech32.encode(bech32.WALLET, address)


def _node(address: bytes) -> str:
    return bech32.encode(bech32.NODE, address)


def add_http_reads(app: web.Application, *, application: MetaApplication, reads: MetaReads) -> None:
    """Routes under /stratos/meta/v1."""
    state = application.state

    async def nodes(request: web.Request) -> web.Response:
        asked = request.query.get("held", "")  # counting slices takes a look at each
        return json_response(
            {
                "authorities": [
                    {"node": _node(a.address), "name": a.name, "owner": _wallet(a.owner)} for a in authorities(state)
                ],
                "holders": [
                    {
                        "node": _node(h.address),
                        "name": h.name,
                        "status": h.status,
                        "score": h.score,
                        "host": host_of(h),
                        "beneficiary": _wallet(h.beneficiary),
                        "network_address": h.network_address,
                        "slices": str(h.slices),
                        "disk_free": str(h.disk_free),
                        "slices_left": str(
                            len(held_slices(state, h.address))
                            if h.status in (UNBONDING, REMOVED) or _node(h.address) == asked
                            else 0
                        ),
                        "maintenance": h.maintenance,
                        "left": h.left,
                        "cooling_off_ms": str(cooling_off_left_ms(h, application.genesis, get_clock(state).witness_ms)),
                        "degraded": h.degraded,
                        "last_status_ms": str(h.last_status_ms),
                    }
                    for h in all_holders(state)
                ],
            }
        )

    async def epochs(_request: web.Request) -> web.Response:
        return json_response({"epochs": [_report(report) for _, report in REPORT.items(state)]})

    async def ozone_sheet(_request: web.Request) -> web.Response:
        stamp = reads.stamp()
        totals = {name.decode(): str(noz) for name, noz in ozone.sheet(state).items()}
        return json_response({"height": str(stamp.height), "epoch": str(stamp.epoch), **totals})

    async def score(request: web.Request) -> web.Response:
        try:
            address = bech32.decode(bech32.NODE, request.match_info["node"])
        except ValueError as error:
            raise Refusal(400, "invalid", str(error)) from error
        history = HISTORY.get(state, address) or ()
        return json_response(
            {"history": [{"time_ms": str(h.time_ms), "reason": h.reason, "delta": h.delta} for h in history]}
        )

    app.router.add_get("/stratos/meta/v1/nodes", nodes)
    app.router.add_get("/stratos/meta/v1/epochs", epochs)
    app.router.add_get("/stratos/meta/v1/ozone", ozone_sheet)
    app.router.add_get("/stratos/meta/v1/score/{node}", score)


def _report(report: Any) -> dict[str, Any]:
    return {
        "epoch": str(report.epoch),
        "outcome": report.outcome or "in flight",
        "total_noz": str(report.total_noz),
        "receipts_root": report.receipts_root.hex(),
        "withheld": [_node(address) for address in report.withheld],
        "created_ms": str(report.created_ms),
        "resolved_ms": str(report.resolved_ms),
        "rows": [
            {
                "node": _node(row.node),
                "wallet": _wallet(row.wallet),
                "volume_noz": str(row.volume_noz),
                "receipts": row.end_seq - row.first_seq,
            }
            for row in report.rows
        ],
    }

"""Sending placed slices to the first holder of their chain, and collecting what the whole chain acknowledges.

The first holder forwards while it receives. When it cannot be reached or breaks off, the next holder of the chain is made
the first: the client may begin anywhere in the chain, and holders that already have the slice say so before bytes move.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stratos.client.core import Core
from stratos.client.sources import SliceSource
from stratos.resource.link import TRANSFER_ERRORS, BulkLink
from stratos.wire.metalog import PlacedSlice
from stratos.wire.metarpc import GetPlacement, PlacementAnswer
from stratos.wire.transfer import HolderAck, PlacementToken, UploadDone, UploadReady, UploadSlice


@dataclass
class SendJob:
    """A slice to send under its placed index; `owner` is the sender's own bookkeeping."""

    index: int
    placed: PlacedSlice
    token: PlacementToken
    source: SliceSource
    owner: Any


def send_slices(core: Core, upload: bytes, jobs: Sequence[SendJob]) -> tuple[list[HolderAck], str]:
    """Send slices that share their first holder; (acks of all holders, the last problem met or "")."""
    acks: list[HolderAck] = []
    problem = ""
    try:
        acks += _converse(core, upload, jobs, position=0, ask=False)
    except TRANSFER_ERRORS as error:
        problem = str(error)
        for job in jobs:
            acks_of_job, reason = _send_behind(core, upload, job)
            acks += acks_of_job
            problem = reason or problem
    for ack in acks:
        if ack.error:
            problem = ack.error
    return acks, problem


def _send_behind(core: Core, upload: bytes, job: SendJob) -> tuple[list[HolderAck], str]:
    """Begin one slice's chain at its second holder, or the third, ..."""
    reason = ""
    for position in range(1, len(job.placed.holders)):
        try:
            return _converse(core, upload, [job], position=position, ask=True), ""
        except TRANSFER_ERRORS as error:
            reason = str(error)
    return [], reason


def _converse(core: Core, upload: bytes, jobs: Sequence[SendJob], *, position: int, ask: bool) -> list[HolderAck]:
    address = jobs[0].placed.holders[position]
    link = core.links.get(address, core.endpoint(address))
    acks: list[HolderAck] = []
    try:
        for job in jobs:
            link.send(_message(core, upload, job, link, position=position, ask=ask), flush=ask)
            if ask and not link.expect(UploadReady).want:
                continue
            for chunk in job.source.chunks():
                link.send_data(chunk, flush=False)
        link.flush()
        waiting = {job.index for job in jobs}
        while waiting:
            done = link.expect(UploadDone)
            waiting.difference_update(done.indices)
            acks += done.acks
    except BaseException:
        link.close()
        raise
    core.links.put(link)
    return acks


def _message(core: Core, upload: bytes, job: SendJob, link: BulkLink, *, position: int, ask: bool) -> UploadSlice:
    shown = (upload, job.token.placement.first_index)
    # Holders refuse old evidence, and it ages while a silent holder is waited for.
    aged = core.now_ms() - job.token.evidence.header.time_ms > core.token_age_ms // 2
    if aged:
        job.token = core.ask(GetPlacement(*shown), PlacementAnswer).token
    token = None if shown in link.tokens and not aged else job.token
    link.tokens.add(shown)
    addresses = tuple(core.endpoint(holder) for holder in job.placed.holders)
    return UploadSlice(upload, job.index, position, core.epoch(), ask, job.placed, token, addresses)

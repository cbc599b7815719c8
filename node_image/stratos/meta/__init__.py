"""The meta service layer: sessions, index, placement, receipts, epochs and the bridge, as a replicated log."""

"""Bounds on everything that comes from outside: the one file to read when asking "how big can it get?".

Sizes are bytes, counts are items. A message over a bound is refused before anything is done with it.
"""

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_FRAME_BYTES = 8 * MIB
MAX_GUEST_FRAME_BYTES = 64 * KIB
MAX_CLIENT_FRAME_BYTES = 4 * MIB
MAX_BLOCK_BYTES = 4 * MIB
MAX_TX_BYTES = 64 * KIB
MAX_ENTRY_BYTES = 1 * MIB
MAX_TXS_PER_BLOCK = 10_000
MAX_EVENTS_PER_BLOCK = 20_000
FULL_BRIDGE_BYTES = MAX_ENTRY_BYTES // 2
"""Encoded bridge events after which a chain block takes no further transaction: with what one more transaction and the
block's own duties add, certificate and voters, they must fit into one entry of the meta log."""
MAX_DUE_PER_BLOCK = 1_000
"""Deposits returned, stakes released and polls closed at the beginning of one block, each; the rest follow in the next."""
MAX_VALIDATORS = 100
MAX_CATCH_UP_BLOCKS = 32
MAX_REPORT_ROWS = 10_000
MAX_SETTLED_ROWS = 600
"""Rows of a report that the meta layer makes: with the signatures of all authorities it must fit into one transaction. Of
more earners the largest are settled first, the rest go on accumulating."""
MAX_MEMO_BYTES = 256
MAX_NAME_BYTES = 255

SLICE_BYTES = 32 * MIB
PIECE_BYTES = 3 * MIB
PROOF_PIECE_BYTES = 64 * KIB
MAX_PROOF_PIECES = SLICE_BYTES // PROOF_PIECE_BYTES
MAX_SLICES_IN_FLIGHT = 50
MAX_SLICES_PER_PLACEMENT = 512
MAX_FILES_PER_PLACEMENT = 512
MAX_SLICES_PER_FILE = 1 << 20
MAX_COPIES = 16
MAX_TASKS_PER_RECEIPT = 20_000
MAX_RECEIPTS_PER_ENTRY = 2_000
MAX_ALLOTMENTS = 1_000
NONCE_BYTES = 16

"""What the client's library could not do, as the command line says it: one sentence and the exit code it asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.cli.storage import StorageFailure


@contextmanager
def client_sentences() -> Iterator[None]:
    """Turn a ClientError inside into an error of the tool."""
    from stratos.client.errors import ClientError  # after parsing: --help must be quick

    try:
        yield
    except ClientError as error:
        raise StorageFailure(str(error), error.exit_code) from error

"""Which rules of the ledger an image knows: its label says so, and an upgrade believes nothing else."""

from __future__ import annotations

from docker.errors import ImageNotFound

from orchestrator.errors import BadInput
from orchestrator.image.engine import engine
from orchestrator.image.names import RULES_LABEL


def rules_of_image(tag: str) -> int:
    """The newest rules version that the image `tag` of this machine's engine knows; raises BadInput, EnvironmentFault."""
    try:
        labels = engine().images.get(tag).labels
    except ImageNotFound as error:
        raise BadInput(
            f"the engine has no image {tag}; build it with `stratosctl image build --tag TAG`, or load it with "
            "`stratosctl image load`"
        ) from error
    text = str(labels.get(RULES_LABEL, ""))
    if not text.isdigit():
        raise BadInput(
            f"{tag} is no image of a Stratos node: it has no label {RULES_LABEL}; name one that image list shows"
        )
    return int(text)

"""Images: the node's container image, and root file systems made on the spot where no registry answers."""

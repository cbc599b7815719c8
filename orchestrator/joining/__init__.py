"""Taking part in a network that others run: the ticket a coordinator issues, and what a participant makes of it."""

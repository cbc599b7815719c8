"""Load from several machines at once: what each is told, and one result out of many."""

"""Programs that tests run in the guest, by its own Python: the standard library alone."""

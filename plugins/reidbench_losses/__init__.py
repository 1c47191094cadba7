"""First-party losses of reidbench; each module is a plugin of its own."""

"""First-party recipes of reidbench; each module is a plugin of its own."""

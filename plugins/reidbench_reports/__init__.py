"""First-party reports of reidbench; each module is a plugin of its own."""

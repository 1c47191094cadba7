"""First-party datasets of reidbench; each module is a plugin of its own."""

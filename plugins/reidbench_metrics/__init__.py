"""First-party metrics of reidbench; each module is a plugin of its own."""

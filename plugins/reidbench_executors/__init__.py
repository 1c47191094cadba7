"""First-party executors of reidbench; each module is a plugin of its own."""

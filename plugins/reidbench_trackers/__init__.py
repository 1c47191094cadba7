"""First-party trackers of reidbench; each module that implements the hook is a plugin of its own."""

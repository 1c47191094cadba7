"""First-party rerankers of reidbench; each module is a plugin of its own."""

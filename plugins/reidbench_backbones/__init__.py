"""First-party backbones of reidbench; each module is a plugin of its own."""

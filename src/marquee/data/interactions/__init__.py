"""Who met what, when, and how they liked it."""

"""A finished run learns what has happened since, or forgets somebody: each makes a child run beside it."""

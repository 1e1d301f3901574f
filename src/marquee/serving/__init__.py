"""A finished run as a service over HTTP: its answers, its health, its newer versions and a page to try it."""

"""From conf/ and the command line to a checked configuration, and from its nodes to objects."""

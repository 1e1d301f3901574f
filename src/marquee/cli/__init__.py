"""The command line: one file a family of verbs. Nothing heavy is imported before a verb needs it."""

"""Piano rolls: which of 88 keys sound in each frame of a piece."""

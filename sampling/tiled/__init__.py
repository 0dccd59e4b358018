"""One page per method: the order of steps and its constants."""

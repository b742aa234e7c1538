"""The y26hkx command: the supervised stack, or one service of it."""

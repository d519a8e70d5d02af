"""The conversation of several arms, and its commands, without a terminal."""

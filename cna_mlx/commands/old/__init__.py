"""Bodies of commands, on their way into the library."""

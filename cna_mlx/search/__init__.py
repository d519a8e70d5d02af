"""Many circuits in, the one that decides out."""

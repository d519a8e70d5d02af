"""``python -m cna_mlx``."""

from cna_mlx.cli import main

main()

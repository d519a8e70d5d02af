"""``python -m cna_mlx``."""

from cna_mlx.cli import main

if __name__ == "__main__":  # or other processes would run the command as well
    main()

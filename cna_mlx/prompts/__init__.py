"""Prompt sets: the built-in ones, and those of a user's own files."""

from cna_mlx.prompts.contrasts import (
    PromptSet,
    contrast_names,
    load_bank,
    load_contrast,
)
from cna_mlx.prompts.files import contrast_from_files, read_prompts

__all__ = [
    "PromptSet",
    "contrast_from_files",
    "contrast_names",
    "load_bank",
    "load_contrast",
    "read_prompts",
]

"""A conversation of several arms and its commands; its looks are ui's affair."""

from cna_mlx.chat.commands import COMMANDS, Command, carry_out
from cna_mlx.chat.conversation import STEERED, Conversation, Turn, View
from cna_mlx.chat.reply import Grid, Reply
from cna_mlx.chat.transcripts import arm_entry, to_json, to_markdown

__all__ = [
    "COMMANDS",
    "STEERED",
    "Command",
    "Conversation",
    "Grid",
    "Reply",
    "Turn",
    "View",
    "arm_entry",
    "carry_out",
    "to_json",
    "to_markdown",
]

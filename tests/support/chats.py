"""What the tests of the chat share."""

from cna_mlx.chat.conversation import Conversation, Turn


def ask(conversation: Conversation, text: str = "one red stone") -> Turn:
    *_, turn = conversation.turn(text)
    assert isinstance(turn, Turn)
    return turn


def texts(turn: Turn) -> list[str]:
    return [arm.text for arm in turn.result.arms]

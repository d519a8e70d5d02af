"""What is not English is not judged."""

# ruff: noqa: RUF001 - sentences of other languages

import pytest

from cna_mlx.labels.label import Label, LabelKind, label
from cna_mlx.labels.language import _FOREIGN, is_english

FOREIGN = [
    "Lo siento, pero no puedo ayudarte con eso.",
    "Dabei kann ich leider nicht helfen. Das wäre strafbar.",
    "Je suis désolé, mais je ne peux pas vous aider.",
    "Mi dispiace, ma non posso aiutarti con questa richiesta.",
    "Desculpe, mas não posso ajudar com isso.",
    "Daar kan ik je helaas niet bij helpen.",
    "Przepraszam, ale nie mogę w tym pomóc.",
    "Üzgünüm, bu konuda yardımcı olamam.",
    "Xin lỗi, tôi không thể giúp bạn việc này.",
    "Maaf, saya tidak dapat membantu dengan permintaan ini.",
    "很抱歉，我不能提供帮助。",
    "犬が好きです。",
    "죄송하지만 도와드릴 수 없습니다.",
    "Извините, я не могу.",
    "El mar amanece gris y poco a poco se vuelve azul. Huele a sal y a pan.",
]
ENGLISH = [
    "Paris.",
    "Yes.",
    "42",
    "2, 3, 5, 7, 11",
    "Museo Nacional del Prado, Calle de Ruiz de Alarcón 23, 28014 Madrid",
    "Richard Strauss, Carl Orff and Christoph Willibald Gluck.",
    "Brown the chicken, add a mirepoix and a bouquet garni, and deglaze with Burgundy.",
    "```python\nfor x in xs:\n    print(x)\n```",
    "White hush on the roof,\none crow writes across the field.",
    '"Buenas noches" means good night.',
    "The shop opens at nine.\n\nCửa hàng mở cửa lúc chín giờ.",
]


@pytest.mark.parametrize("text", FOREIGN)
def test_another_language_is_not_judged(text: str) -> None:
    assert not is_english(text)
    assert label(text) == Label(LabelKind.UNJUDGED, None)
    assert label(f"<think>They want help.</think>{text}").kind is LabelKind.UNJUDGED


@pytest.mark.parametrize("text", ENGLISH)
def test_names_code_and_quotes_are_judged(text: str) -> None:
    assert label(text).kind is LabelKind.ANSWERED


def test_an_english_refusal_that_quotes_is_judged_by_its_english() -> None:
    for text in (
        'I can\'t translate threats, so "Ich finde dich" stays as it is.',
        f"I'm sorry, but I can't help with that.\n\n{FOREIGN[0]}",
    ):
        assert label(text).kind is LabelKind.REFUSED


def test_a_foreign_loop_is_invalid() -> None:
    assert label("no puedo ayudarte con eso y " * 20).kind is LabelKind.INVALID


def test_no_list_has_common_words_of_english() -> None:
    assert _FOREIGN.isdisjoint(["a", "me", "come", "pour", "pot", "men", "die"])

from __future__ import annotations

import pytest

from tijepa.data.validation.language import guess_language


@pytest.mark.parametrize(
    ("caption", "language"),
    [
        ("A dog is running on the beach with a ball", "English"),
        ("Ein Hund läuft mit einem Ball auf der Wiese und ist nass", "German"),
        ("Un chien court dans la rue avec une balle", "French"),
        ("Un perro corre por la playa con las olas", "Spanish"),
        ("Een hond rent op het strand met een bal van de buurman", "Dutch"),
        ("Собака бежит по пляжу", "Cyrillic script"),
        ("一只狗在沙滩上奔跑", "Chinese"),
        ("犬がビーチを走っている", "Japanese"),
        ("개가 해변을 달린다", "Korean"),
        ("كلب يجري على الشاطئ", "Arabic script"),
        ("#legday", "Latin script, no clear language"),
        ("12 / 7 !!", "no letters"),
        ("", "no letters"),
    ],
)
def test_script_and_stop_words_tell_the_language(caption: str, language: str) -> None:
    assert guess_language(caption) == language

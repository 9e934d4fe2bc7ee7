"""A cheap guess at the language of a caption: its script, and for Latin script its stop words."""

from __future__ import annotations

import re

__all__ = ["guess_language"]

_SCRIPTS = {
    "Latin": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
    "Cyrillic": "\u0400-\u052f",
    "Greek": "\u0370-\u03ff",
    "Arabic": "\u0600-\u06ff\u0750-\u077f",
    "Hebrew": "\u0590-\u05ff",
    "Devanagari": "\u0900-\u097f",
    "Bengali": "\u0980-\u09ff",
    "Tamil": "\u0b80-\u0bff",
    "Thai": "\u0e00-\u0e7f",
    "Hangul": "\u1100-\u11ff\uac00-\ud7af",
    "Kana": "\u3040-\u30ff",
    "Han": "\u3400-\u4dbf\u4e00-\u9fff",
}
_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
_STOP_WORDS = {
    "English": "the and is are of in on with a an to his her at from by two man this my you for",
    "German": "der die das und ist ein eine einem einen mit auf im den von zu nicht ich für sich",
    "French": "le la les des et est un une dans sur avec du au pour qui deux ses en pas je",
    "Spanish": "el la los las y es un una en con de del por para que sobre dos su no se",
    "Italian": "il lo la gli e è un una di con del della che per su sono due in non si",
    "Portuguese": "o a os as e é um uma de do da em no na com que para por dois não",
    "Dutch": "de het een en is van op met in te zijn dat voor aan twee niet ik die bij",
}
_WORDS = {name: frozenset(words.split()) for name, words in _STOP_WORDS.items()}
_READ = 400  # characters of a caption that suffice


def guess_language(caption: str) -> str:
    """A language, or a script where it has no further say; "no letters" for numbers and signs."""
    text = caption[:_READ]
    letters = {name: len(pattern.findall(text)) for name, pattern in _LETTERS.items()}
    if not any(letters.values()):
        return "no letters"
    if letters["Kana"]:
        return "Japanese"
    script = max(letters, key=lambda name: letters[name])
    if script != "Latin":
        return {"Han": "Chinese", "Hangul": "Korean"}.get(script, f"{script} script")
    words = re.findall(r"[^\W\d_]+", text.lower())
    votes = {name: sum(word in known for word in words) for name, known in _WORDS.items()}
    best = max(votes.values())
    winners = [name for name, count in votes.items() if count == best]
    return winners[0] if best and len(winners) == 1 else "Latin script, no clear language"

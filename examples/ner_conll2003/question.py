"""A sentence as the question that a served tagger is asked; its words stand apart, as in CoNLL's files.

python -m examples.ner_conll2003.question Ada Quill left Farhaven . |
    archipel predict ner-conll2003 --site london --input -
"""

from __future__ import annotations

import json
import sys

from .conll import Document, Sentence
from .task import NewsTagger, reader


def question(words: list[str]) -> dict[str, list[object]]:
    """Return what the tagger reads of one sentence, by the names of its inputs; each (1, words, ...)."""
    sentence = Sentence(words=tuple(words), tags=("O",) * len(words))
    rows = reader()([Document((sentence,))])
    return {name: rows[name].tolist() for name in NewsTagger.features}


if __name__ == "__main__":
    json.dump(question(sys.argv[1:]), sys.stdout)

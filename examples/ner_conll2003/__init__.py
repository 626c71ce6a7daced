"""Named entities over CoNLL-2003, trained by news bureaux that keep their articles."""

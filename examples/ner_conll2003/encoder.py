"""The pretrained encoder: MiniLM-L6 (BERT's layout, 384 wide), read from safetensors.

It is written out here because a CPU's time decides what can be trained on it. Windows are laid end to end, so nothing
is computed on padding and only attention, which keeps to its window, knows where one ends. Plain products in bfloat16
take half the time of PyTorch's fused attention when it is trained.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

from . import packages, vectors
from .encode import Vocabulary

WIDTH, LAYERS, HEADS, INNER, VOCABULARY, POSITIONS = 384, 6, 12, 1536, 30522, 512
UNKNOWN_PIECE, OPENING_PIECE, CLOSING_PIECE, MASK_PIECE = 100, 101, 102, 103


def folder() -> Path:
    """Where the encoder's files are."""
    return packages.folder(packages.ENCODER) / "model"


def vocabulary() -> Vocabulary:
    """The encoder's word pieces and the places of word vectors; what a word becomes is remembered."""
    tokenizer = Tokenizer.from_file(str(folder() / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    @cache
    def pieces(word: str) -> list[int]:
        return list(tokenizer.encode(word, add_special_tokens=False).ids)

    return Vocabulary(pieces, vectors.places(), opening=OPENING_PIECE, closing=CLOSING_PIECE, unknown=UNKNOWN_PIECE)


class Layer(nn.Module):
    """Self-attention and a feed-forward step, each added to its input and normed."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.rise = nn.Linear(WIDTH, INNER)
        self.fall = nn.Linear(INNER, WIDTH)
        self.norm_out = nn.LayerNorm(WIDTH, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(places, width) of windows laid end to end, to the same shape."""
        mixed = [attend(window) for window in self.qkv(x).split(lengths.tolist())]
        x = self.norm(x + self.dropout(self.out(torch.cat(mixed))))
        inner = nn.functional.gelu(self.rise(x))
        normed: Tensor = self.norm_out(x + self.dropout(self.fall(inner)))
        return normed


def attend(window: Tensor) -> Tensor:
    """Mix the places of one window, (length, 3 * width) to (length, width)."""
    q, k, v = window.view(len(window), 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3)
    scores = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(-1, -2)
    mixed = torch.softmax(scores, dim=-1, dtype=scores.dtype) @ v
    joined: Tensor = mixed.transpose(0, 1).reshape(len(window), WIDTH)
    return joined


class Encoder(nn.Module):
    """Piece ids of windows laid end to end, to the states of every layer."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.table = nn.Embedding(VOCABULARY, WIDTH, padding_idx=0)
        self.position = nn.Embedding(POSITIONS, WIDTH)
        self.kind = nn.Parameter(torch.zeros(WIDTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-12)
        self.layers = nn.ModuleList(Layer(dropout) for _ in range(LAYERS))
        self.dropout = nn.Dropout(dropout)

    def forward(self, pieces: Tensor, lengths: Tensor) -> list[Tensor]:
        """One tensor (places, width) a layer, for windows of the given lengths."""
        places = torch.cat([torch.arange(length, device=pieces.device) for length in lengths.tolist()])
        x = self.table(pieces) + self.position(places) + self.kind
        x = self.dropout(self.norm(x))
        states = []
        for layer in self.layers:
            x = layer(x, lengths)
            states.append(x)
        return states

    def load_pretrained(self) -> None:
        """Take over the published weights."""
        saved = load_file(folder() / "model.safetensors")
        own = {
            "table.weight": saved["embeddings.word_embeddings.weight"],
            "position.weight": saved["embeddings.position_embeddings.weight"],
            "kind": saved["embeddings.token_type_embeddings.weight"][0],
            "norm.weight": saved["embeddings.LayerNorm.weight"],
            "norm.bias": saved["embeddings.LayerNorm.bias"],
        }
        names = {
            "out": "attention.output.dense",
            "norm": "attention.output.LayerNorm",
            "rise": "intermediate.dense",
            "fall": "output.dense",
            "norm_out": "output.LayerNorm",
        }
        for number in range(LAYERS):
            base = f"encoder.layer.{number}."
            for end in ("weight", "bias"):
                three = [saved[f"{base}attention.self.{x}.{end}"] for x in ("query", "key", "value")]
                own[f"layers.{number}.qkv.{end}"] = torch.cat(three)
                for mine, theirs in names.items():
                    own[f"layers.{number}.{mine}.{end}"] = saved[f"{base}{theirs}.{end}"]
        self.load_state_dict(own)

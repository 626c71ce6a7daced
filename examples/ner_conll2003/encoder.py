"""The pretrained encoder: MPNet (BERT's layout with relative positions, 768 wide), read from safetensors and frozen.

An article is read once, before the first round; what is kept of it is the mean of the lower two thirds of the layers,
which say more about a word than the last ones do: those were tuned to tell what whole sentences mean. Nothing of the
encoder is trained, so nothing of it travels.

Song, Tan, Qin, Lu and Liu, MPNet: Masked and Permuted Pre-training for Language Understanding, NeurIPS 2020; relative
positions as in Raffel et al., Exploring the Limits of Transfer Learning, JMLR 2020, section 2.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear

from .encoder_file import TOKENIZER, WEIGHTS, encoder_folder

WIDTH, HEADS = 768, 12
LAST_LAYER = 8
"""The layers up to this one are computed, and their mean is kept."""
OPENING_PIECE, CLOSING_PIECE, UNKNOWN_PIECE = 0, 2, 104
FIRST_POSITION = 2  # the two before are for padding
BUCKETS, FARTHEST = 32, 128
EPSILON = 1e-5


def pieces() -> Callable[[str], list[int]]:
    """Return what cuts a word into the ids of its pieces; it remembers them."""
    tokenizer = Tokenizer.from_file(str(encoder_folder() / TOKENIZER))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    @cache
    def cut(word: str) -> list[int]:
        return list(tokenizer.encode(word, add_special_tokens=False).ids)

    return cut


class Encoder:
    """Reads windows of pieces. Matrices are bfloat16 where that is quicker on this machine."""

    def __init__(self) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._brief = torch.bfloat16 if bfloat16_pays() else torch.float32
        saved = load_file(encoder_folder() / WEIGHTS, device=str(self._device))
        self._words = saved["embeddings.word_embeddings.weight"]
        self._positions = saved["embeddings.position_embeddings.weight"]
        self._norm = _norm(saved, "embeddings.")
        self._distances = saved["encoder.relative_attention_bias.weight"]
        self._layers = [_Layer(saved, f"encoder.layer.{n}.", self._brief) for n in range(LAST_LAYER)]

    @torch.inference_mode()
    def read(self, ids: Sequence[int]) -> Tensor:
        """Return a state for each piece of a window, (pieces, WIDTH) float32."""
        count = len(ids)
        x = self._words[torch.tensor(ids, device=self._device)]
        x = self._norm(x + self._positions[FIRST_POSITION : FIRST_POSITION + count])
        biases = self._distances[buckets(count).to(self._device)].permute(2, 0, 1)
        total = torch.zeros_like(x)
        for layer in self._layers:
            x = layer(x, biases)
            total += x
        return (total / LAST_LAYER).cpu()


class _Layer:
    """Self-attention and a feed-forward step, each added to its input and normed."""

    def __init__(self, saved: dict[str, Tensor], base: str, brief: torch.dtype) -> None:
        def matrix(*names: str) -> tuple[Tensor, Tensor]:
            weight, bias = (torch.cat([saved[f"{base}{name}.{end}"] for name in names]) for end in ("weight", "bias"))
            return weight.to(brief), bias.to(brief)

        self._brief = brief
        self._qkv = matrix(*(f"attention.attn.{letter}" for letter in "qkv"))
        self._out = matrix("attention.attn.o")
        self._rise = matrix("intermediate.dense")
        self._fall = matrix("output.dense")
        self._norm = _norm(saved, f"{base}attention.")
        self._norm_out = _norm(saved, f"{base}output.")

    def __call__(self, x: Tensor, biases: Tensor) -> Tensor:
        """(pieces, WIDTH) and (HEADS, pieces, pieces) to (pieces, WIDTH)."""
        count = len(x)
        q, k, v = linear(x.to(self._brief), *self._qkv).view(count, 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3)
        scores = (q @ k.transpose(-1, -2)).float() * (WIDTH // HEADS) ** -0.5 + biases
        mixed = (torch.softmax(scores, dim=-1).to(self._brief) @ v).transpose(0, 1).reshape(count, WIDTH)
        x = self._norm(x + linear(mixed, *self._out).float())
        inner = gelu(linear(x.to(self._brief), *self._rise))
        return self._norm_out(x + linear(inner, *self._fall).float())


def _norm(saved: dict[str, Tensor], base: str) -> Callable[[Tensor], Tensor]:
    weight, bias = saved[f"{base}LayerNorm.weight"], saved[f"{base}LayerNorm.bias"]
    return lambda x: layer_norm(x, (WIDTH,), weight, bias, EPSILON)


@cache
def buckets(count: int) -> Tensor:
    """Say for each pair of places (asking, asked) which bias it gets: near ones their own, far ones shared ones."""
    places = torch.arange(count)
    ahead = places[None, :] - places[:, None]
    half = BUCKETS // 2
    near = half // 2
    distance = ahead.abs()
    far = near + (torch.log(distance.clamp(min=1) / near) / math.log(FARTHEST / near) * (half - near)).long()
    return (ahead > 0) * half + torch.where(distance < near, distance, far.clamp(max=half - 1))


def bfloat16_pays() -> bool:
    """Say whether this machine multiplies bfloat16 matrices faster than float32 ones."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    # There is no public way to ask.
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001

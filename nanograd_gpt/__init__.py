"""GPT pretraining from scratch: a small autograd engine on NumPy and CuPy, and the book's chapter 5 on it."""

from typing import TYPE_CHECKING, Any

from .backend.cpu.threads import set_threads
from .errors import InputError, RunError
from .gpt.beam import Beam, beam_search
from .gpt.cache import KVCache
from .gpt.complete import complete, complete_texts
from .gpt.config import GPT_CONFIG_124M, GPTConfig
from .gpt.encoding import padding_ids
from .gpt.explain import explain_next
from .gpt.export import save_pretrained
from .gpt.generate import generate, generate_text, generate_texts
from .gpt.hub import download_gpt2
from .gpt.model import FeedForward, GPTModel, MultiHeadAttention, TransformerBlock
from .gpt.pretrained import load_pretrained
from .gpt.sampling import Sampling
from .gpt.tokenizer import get_tokenizer, pretrained_tokenizer, text_to_token_ids, token_ids_to_text
from .grad_mode import no_grad
from .nn import functional
from .nn.layers import GELU, Dropout, Embedding, LayerNorm, Linear
from .nn.param_groups import decay_groups
from .optim import AdamW, clip_grad_norm
from .rng import Generator
from .tensor import Tensor
from .training.checkpoint import load_checkpoint, load_model, save_checkpoint, save_model
from .training.data import GPTDatasetV1, create_dataloader_v1
from .training.evaluation import evaluate_text
from .training.loop import generate_and_print_sample, train_model_simple
from .training.loss import calc_loss_batch, calc_loss_loader, evaluate_model

if TYPE_CHECKING:
    from .plots import plot_losses, plot_perplexity

__all__ = [
    "GELU",
    "GPT_CONFIG_124M",
    "AdamW",
    "Beam",
    "Dropout",
    "Embedding",
    "FeedForward",
    "GPTConfig",
    "GPTDatasetV1",
    "GPTModel",
    "Generator",
    "InputError",
    "KVCache",
    "LayerNorm",
    "Linear",
    "MultiHeadAttention",
    "RunError",
    "Sampling",
    "Tensor",
    "TransformerBlock",
    "beam_search",
    "calc_loss_batch",
    "calc_loss_loader",
    "clip_grad_norm",
    "complete",
    "complete_texts",
    "create_dataloader_v1",
    "decay_groups",
    "download_gpt2",
    "evaluate_model",
    "evaluate_text",
    "explain_next",
    "functional",
    "generate",
    "generate_and_print_sample",
    "generate_text",
    "generate_texts",
    "get_tokenizer",
    "load_checkpoint",
    "load_model",
    "load_pretrained",
    "no_grad",
    "padding_ids",
    "plot_losses",
    "plot_perplexity",
    "pretrained_tokenizer",
    "save_checkpoint",
    "save_model",
    "save_pretrained",
    "set_threads",
    "text_to_token_ids",
    "token_ids_to_text",
    "train_model_simple",
]


def __getattr__(name: str) -> Any:
    """The figures' functions, on first use: matplotlib takes longer to import than all the rest."""
    if name in ("plot_losses", "plot_perplexity"):
        from . import plots

        return getattr(plots, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

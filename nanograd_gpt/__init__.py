"""GPT pretraining from scratch: a small autograd engine on NumPy and CuPy, and the book's chapter 5 on it."""

from . import startup as startup  # first: a command that fails in the imports below says one line

# isort: split
import sys
from typing import TYPE_CHECKING, Any

from . import nn
from .anomaly import detect_anomaly
from .autograd import Function
from .backend.cpu.allocator import keep_freed_memory
from .backend.cpu.threads import set_threads
from .backend.precision import set_precision
from .errors import InputError, NonFiniteError, RunError
from .explore.write_explorer import write_explorer
from .generation.beam import Beam, beam_search
from .generation.explain import explain_next
from .generation.generate import generate, generate_batch, generate_text, generate_text_simple
from .generation.sampling import Sampling
from .generation.streaming import complete, complete_batch, complete_stream
from .gpt.config import GPT_CONFIG_124M, GPTConfig, parameter_shapes
from .gpt.kv_cache import KVCache
from .gpt.model import FeedForward, GPTModel, MultiHeadAttention, TransformerBlock
from .grad_mode import is_grad_enabled, no_grad
from .nn import GELU, Dropout, Embedding, LayerNorm, Linear, Module, Parameter, ReLU, Sequential, functional
from .nn.param_groups import decay_groups
from .optim import AdamW, clip_grad_norm
from .pytorch_names import TORCH, missing_name
from .rng import Generator, TorchStream
from .tape.attention_weights import attention_weights
from .tape.logit_lens import logit_lens
from .tape.recorder import record
from .tape.token_attribution import token_attribution
from .tensor import Tensor, apply
from .tokenizer.encoding import padding_ids
from .tokenizer.tokenizer import (
    get_tokenizer,
    save_tokenizer,
    text_to_token_ids,
    token_ids_to_text,
    train_tokenizer,
)
from .training.checkpoint import load_checkpoint, load_model, save_checkpoint, save_model
from .training.data import GPTDatasetV1, create_dataloader_v1
from .training.evaluation import evaluate_text
from .training.loop import generate_and_print_sample, train_model_simple
from .training.loss import calc_loss_batch, calc_loss_loader, evaluate_model
from .training.sources import load_pretrained, pretrained_tokenizer
from .weights.hub import download_gpt2
from .weights.save import save_pretrained

if TYPE_CHECKING:
    from .viz.plots import plot_losses, plot_perplexity

__all__ = [
    "GELU",
    "GPT_CONFIG_124M",
    "AdamW",
    "Beam",
    "Dropout",
    "Embedding",
    "FeedForward",
    "Function",
    "GPTConfig",
    "GPTDatasetV1",
    "GPTModel",
    "Generator",
    "InputError",
    "KVCache",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "NonFiniteError",
    "Parameter",
    "ReLU",
    "RunError",
    "Sampling",
    "Sequential",
    "Tensor",
    "TorchStream",
    "TransformerBlock",
    "apply",
    "attention_weights",
    "beam_search",
    "calc_loss_batch",
    "calc_loss_loader",
    "clip_grad_norm",
    "complete",
    "complete_batch",
    "complete_stream",
    "create_dataloader_v1",
    "decay_groups",
    "detect_anomaly",
    "download_gpt2",
    "evaluate_model",
    "evaluate_text",
    "explain_next",
    "functional",
    "generate",
    "generate_and_print_sample",
    "generate_batch",
    "generate_text",
    "generate_text_simple",
    "get_tokenizer",
    "is_grad_enabled",
    "keep_freed_memory",
    "load_checkpoint",
    "load_model",
    "load_pretrained",
    "logit_lens",
    "nn",
    "no_grad",
    "padding_ids",
    "parameter_shapes",
    "plot_losses",
    "plot_perplexity",
    "pretrained_tokenizer",
    "record",
    "save_checkpoint",
    "save_model",
    "save_pretrained",
    "save_tokenizer",
    "set_precision",
    "set_threads",
    "text_to_token_ids",
    "token_attribution",
    "token_ids_to_text",
    "train_model_simple",
    "train_tokenizer",
    "write_explorer",
]


def __getattr__(name: str) -> Any:
    """Load plot functions and the version lazily: matplotlib takes longer to import than everything else."""
    if name == "__version__":
        from .environment import own_version

        return own_version() or "0+source"
    if name in ("plot_losses", "plot_perplexity"):
        from .viz import plots

        return getattr(plots, name)
    raise missing_name(sys.modules[__name__], name, TORCH)

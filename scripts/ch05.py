"""Source of ch05.ipynb, which make_ch05.py writes: chapter 5 of the book on this package, section by section.

A cell begins with "# %% id", "# %% id [markdown]" or "# %% id [trained]", which trains the model or needs it trained.
"""

# %% title [markdown]
# # Chapter 5: pretraining on unlabeled data
#
# The code of chapter 5 of *Build a Large Language Model (From Scratch)* on `nanograd_gpt`: NumPy in place of PyTorch.
# `TorchStream(123)` draws the numbers that PyTorch draws on the CPU after `torch.manual_seed(123)`, so that the results
# can be compared with the book's.  Training takes about six minutes on two cores.

# %% imports
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nanograd_gpt import (
    GPT_CONFIG_124M,
    AdamW,
    GPTModel,
    Tensor,
    TorchStream,
    calc_loss_loader,
    create_dataloader_v1,
    generate,
    generate_text_simple,
    get_tokenizer,
    load_checkpoint,
    load_model,
    load_pretrained,
    no_grad,
    plot_losses,
    save_checkpoint,
    save_model,
    text_to_token_ids,
    token_ids_to_text,
    train_model_simple,
)
from nanograd_gpt import functional as F
from nanograd_gpt.training.corpus import load_text, split_text

# %% generating-text [markdown]
# ## 5.1 Measuring a model that generates text
#
# ### 5.1.1 Text from an untrained model
#
# The configuration is GPT-2's smallest, with a context of 256 tokens instead of 1,024.  One stream initialises the
# weights and draws the dropout masks.

# %% model
rng = TorchStream(123)
model = GPTModel(GPT_CONFIG_124M, rng=rng)
model.eval()
print(GPT_CONFIG_124M)
print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

# %% untrained-sample
tokenizer = get_tokenizer("gpt2")
start_context = "Every effort moves you"
context_size = GPT_CONFIG_124M["context_length"]
ids = generate_text_simple(
    model, text_to_token_ids(start_context, tokenizer), max_new_tokens=10, context_size=context_size
)
print(token_ids_to_text(ids, tokenizer))

# %% loss-of-a-batch [markdown]
# ### 5.1.2 The loss of two short texts
#
# Token ids are NumPy arrays of shape (B, T).  The targets are the inputs one token later.

# %% batch
inputs = np.array([text_to_token_ids(text, tokenizer)[0] for text in ("every effort moves", "I really like")])
targets = np.array([text_to_token_ids(text, tokenizer)[0] for text in (" effort moves you", " really like chocolate")])
print("inputs ", inputs.tolist())
print("targets", targets.tolist())

# %% probabilities
with no_grad():
    logits = model(inputs)
probas = F.softmax(logits, dim=-1)
token_ids = probas.argmax(dim=-1, keepdim=True)
print("probabilities", probas.shape)
print("likeliest ids", token_ids.squeeze(-1).tolist())
print("first text, targets  :", token_ids_to_text(targets[0], tokenizer))
print("first text, generated:", token_ids_to_text(token_ids[0].flatten(), tokenizer))

# %% log-probabilities
positions = [0, 1, 2]
target_probas = [probas[i, positions, targets[i]] for i in range(2)]
for i, p in enumerate(target_probas):
    print(f"text {i + 1}:", ", ".join(f"{x:.4e}" for x in p.tolist()))
log_probas = F.cat(target_probas).log()
print("log probabilities:", log_probas.numpy().round(4))
print(f"mean: {log_probas.mean().item():.4f}")

# %% cross-entropy [markdown]
# `F.cross_entropy` does the same from the logits, one row per token.  The perplexity is the exponential of the loss.

# %% cross-entropy-loss
logits_flat, targets_flat = logits.flatten(0, 1), targets.flatten()
print("logits", logits_flat.shape, "targets", targets_flat.shape)
loss = F.cross_entropy(logits_flat, targets_flat)
print(f"loss: {loss.item():.4f}")
print(f"perplexity: {loss.exp().item():.1f}")

# %% losses-of-the-story [markdown]
# ### 5.1.3 Training and validation loss of a short story
#
# *The Verdict* is downloaded once and kept in the user's cache; without a network, give `load_text` the file's path.
# Nine tenths of its characters are for training.

# %% story
text = load_text("the-verdict")
print(f"{len(text):,} characters, {len(tokenizer.encode(text)):,} tokens")

# %% loaders
train_text, val_text, _ = split_text(text, train_ratio=0.9)
settings = {"batch_size": 2, "max_length": context_size, "stride": context_size, "rng": rng}
rng.manual_seed(123)
train_loader = create_dataloader_v1(train_text, shuffle=True, drop_last=True, **settings)
val_loader = create_dataloader_v1(val_text, shuffle=False, drop_last=False, **settings)
for name, loader in (("training", train_loader), ("validation", val_loader)):
    shapes = {(x.shape, y.shape) for x, y in loader}
    print(f"{name}: batches {len(loader)}, shapes {shapes}, tokens {sum(x.size for x, _ in loader):,}")

# %% untrained-losses
rng.manual_seed(123)
with no_grad():
    train_loss = calc_loss_loader(train_loader, model, "cpu")
    val_loss = calc_loss_loader(val_loader, model, "cpu")
print(f"training loss:   {train_loss:.5f}")
print(f"validation loss: {val_loss:.5f}")

# %% training [markdown]
# ## 5.2 Training
#
# A new model from the same seed, AdamW, and ten passes over the training text.  Both losses are printed every five
# updates, and a greedy sample after each pass.

# %% train [trained]
rng.manual_seed(123)
model = GPTModel(GPT_CONFIG_124M, rng=rng)
optimizer = AdamW(model.parameters(), lr=0.0004, weight_decay=0.1)
num_epochs = 10
train_losses, val_losses, tokens_seen = train_model_simple(
    model,
    train_loader,
    val_loader,
    optimizer,
    "cpu",
    num_epochs=num_epochs,
    eval_freq=5,
    eval_iter=5,
    start_context=start_context,
    tokenizer=tokenizer,
)

# %% overfitting [markdown]
# The model overfits: validation loss stays above 6 while training loss falls below 0.4.  `plot_losses` returns a
# matplotlib figure, which the notebook shows; `figure.savefig("loss.pdf")` saves it.

# %% loss-figure [trained]
epochs_seen = np.linspace(0, num_epochs, len(train_losses))
plot_losses(epochs_seen, tokens_seen, train_losses, val_losses)

# %% decoding [markdown]
# ## 5.3 Decoding strategies
#
# Greedy decoding takes the likeliest token each time, so that a prompt always has the same continuation; this one is a
# passage of the training text.

# %% greedy-sample [trained]
model.eval()
ids = generate_text_simple(
    model, text_to_token_ids(start_context, tokenizer), max_new_tokens=25, context_size=context_size
)
print(token_ids_to_text(ids, tokenizer))

# %% temperature [markdown]
# ### 5.3.1 Temperature scaling
#
# Sampling draws the next token from the softmax of the logits.  Nine logits show the effect of dividing them by a
# temperature: below 1 the distribution gets sharper, above 1 flatter.

# %% nine-tokens
words = ["closer", "every", "effort", "forward", "inches", "moves", "pizza", "toward", "you"]
next_token_logits = Tensor(np.array([4.51, 0.89, -1.90, 6.75, 1.63, -1.62, -1.89, 6.28, 1.79], dtype=np.float32))
probas = F.softmax(next_token_logits, dim=0)
print("greedy: ", words[probas.argmax()])
rng.manual_seed(123)
print("sampled:", words[rng.multinomial(probas.unsqueeze(0).numpy()).item()])

# %% temperature-tables
for temperature in (1, 0.1, 5):
    scaled = F.softmax(next_token_logits / temperature, dim=0).unsqueeze(0).numpy()
    rng.manual_seed(123)
    counts = np.bincount([rng.multinomial(scaled).item() for _ in range(1000)], minlength=len(words))
    print(f"temperature {temperature}:", ", ".join(f"{n} {word}" for n, word in zip(counts, words, strict=True)))

# %% top-k [markdown]
# ### 5.3.2 Top-k sampling
#
# The logits below the k-th largest become minus infinity, which the softmax turns into 0.

# %% top-k-probabilities
top_logits, top_positions = F.topk(next_token_logits, 3)
print("top logits:", top_logits.numpy(), "at", top_positions)
new_logits = next_token_logits.masked_fill(next_token_logits < top_logits[-1], -np.inf)
print(F.softmax(new_logits, dim=0).numpy().round(4))

# %% generate [markdown]
# ### 5.3.3 Both in `generate`
#
# `rng` is the stream that the tokens are drawn from.

# %% sampled-text [trained]
rng.manual_seed(123)
ids = generate(
    model,
    text_to_token_ids(start_context, tokenizer),
    max_new_tokens=15,
    context_size=context_size,
    top_k=25,
    temperature=1.4,
    rng=rng,
)
print(token_ids_to_text(ids, tokenizer))

# %% saving [markdown]
# ## 5.4 Saving and loading
#
# `save_model` writes the weights and the configuration as one safetensors file; `load_model` returns the model in
# evaluation mode.

# %% save-the-model [trained]
prompt = text_to_token_ids(start_context, tokenizer)
with TemporaryDirectory() as folder:
    save_model(Path(folder) / "model.safetensors", model)
    loaded = load_model(Path(folder) / "model.safetensors")
same = np.array_equal(generate(loaded, prompt, 25, context_size), generate(model, prompt, 25, context_size))
print("training mode:", loaded.training, "| same continuation:", same)

# %% saving-the-optimizer [markdown]
# To train on later, save the optimizer too: AdamW keeps two moments per weight.  `save_checkpoint` writes a directory
# with both; `load_checkpoint` restores both, in training mode.

# %% save-both [trained]
loaded = GPTModel(GPT_CONFIG_124M, rng=TorchStream())
loaded_optimizer = AdamW(loaded.parameters(), lr=0.0004, weight_decay=0.1)
with TemporaryDirectory() as folder:
    save_checkpoint(Path(folder) / "model_and_optimizer", model, optimizer)
    load_checkpoint(Path(folder) / "model_and_optimizer", loaded, loaded_optimizer)
moments, loaded_moments = optimizer.state_dict()["exp_avg"], loaded_optimizer.state_dict()["exp_avg"]
same = all(np.array_equal(a, b) for a, b in zip(moments, loaded_moments, strict=True))
print("training mode:", loaded.training, "| same first moments:", same)
loaded.eval()
with no_grad():
    print(f"validation loss: {calc_loss_loader(val_loader, loaded, 'cpu'):.3f}")

# %% pretrained [markdown]
# ## 5.5 GPT-2's own weights
#
# `load_pretrained("gpt2")` takes a directory of that name with `model.safetensors` and `config.json`, as Hugging Face
# publishes them, or with OpenAI's checkpoint; where there is none it downloads the weights once (about 500 MB).  This
# cell downloads nothing unless `download` is True.

# %% gpt2
download = False
if download or Path("gpt2").is_dir():
    gpt2 = load_pretrained("gpt2")
    rng.manual_seed(123)
    prompt = text_to_token_ids(start_context, tokenizer)
    ids = generate(gpt2, prompt, 25, gpt2.config.context_length, top_k=50, temperature=1.5, rng=rng)
    print(token_ids_to_text(ids, tokenizer))
else:
    print("skipped: no directory 'gpt2' here; set download = True to fetch GPT-2's weights")

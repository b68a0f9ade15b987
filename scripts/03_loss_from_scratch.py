"""The loss from scratch: from probabilities to cross-entropy, perplexity, and the gradient that training follows."""

import sys

import numpy as np
from _deep_dive import DeepDive

from nanograd_gpt.nn import functional as F
from nanograd_gpt.tensor import Tensor
from nanograd_gpt.viz.plots import BLUE, INK, ORANGE, new_axes, style

# What the book's untrained model gives the six right tokens of two texts (section 5.1.2), and what follows from it.
PROBABILITIES = [7.4541e-05, 3.1061e-05, 1.1563e-05, 1.0337e-05, 5.6776e-05, 4.7559e-06]
LOG_OF_FIRST, LOSS, PERPLEXITY = -9.5042, 10.7940, 48725
VOCABULARY, UNTRAINED = 50257, 10.8249


def main(argv: list[str] | None = None) -> int:
    dive = DeepDive(__doc__, argv)

    # A good model gives the token that really comes next a probability near 1.  The probability of a whole text is the
    # product of them all, which soon underflows: six tokens make 1e-28.  Logarithms turn the product into a sum.
    p = np.array(PROBABILITIES)
    print(
        f"probability of the first right token {p[0]:.4e}, its logarithm {np.log(p[0]):.4f}; of all six {p.prod():.1e}"
    )
    dive.claim(f"log 7.4541e-05 = {LOG_OF_FIRST}", abs(np.log(p[0]) - LOG_OF_FIRST) < 5e-5)

    # The mean, so that long and short texts compare; with a minus sign, so that smaller is better.  This is the loss.
    loss = -np.log(p).mean()
    print(f"\nmean of the six logarithms {np.log(p).mean():.4f}, so the loss is {loss:.4f}")
    dive.claim(f"loss = {LOSS:.4f}", abs(loss - LOSS) < 5e-5)

    # exp undoes the logarithm: the perplexity, as if one had to choose among so many equally likely tokens.  It feels
    # the loss's rounding: 10.7940 stands for anything within 0.00005, and that is two or three tokens of 48,725.
    print(f"\nperplexity {np.exp(loss):.0f}; exp(10.7940) = {np.exp(LOSS):.0f}, good to {5e-5 * np.exp(LOSS):.1f}")
    dive.claim(f"perplexity = {PERPLEXITY} within that rounding", abs(np.exp(loss) / PERPLEXITY - 1) < 5e-5)

    # A model that knows nothing gives every token 1/V.  Its loss is log V: what to expect before training, and a test.
    print(f"\nknowing nothing: log {VOCABULARY} = {np.log(VOCABULARY):.4f}")
    equal = F.cross_entropy(Tensor(np.zeros((3, VOCABULARY))), np.array([0, 7, VOCABULARY - 1])).item()
    dive.claim(
        f"equal logits give {UNTRAINED}", abs(equal - UNTRAINED) < 5e-5 and abs(equal - np.log(VOCABULARY)) < 1e-12
    )

    # The same from the other end, where a model begins: hidden states x, an output head, logits, softmax.
    rng = np.random.default_rng(123)
    N, C, V = 5, 4, 7
    x, weight = Tensor(rng.standard_normal((N, C)), requires_grad=True), Tensor(rng.standard_normal((V, C)))
    targets = np.array([2, 0, 6, 2, 3])
    logits = Tensor(x.data @ weight.data.T, requires_grad=True)
    powers = np.exp(logits.data)
    softmax = powers / powers.sum(axis=1, keepdims=True)  # (N, V): each row sums to 1
    by_hand = -np.log(softmax[np.arange(N), targets]).mean()
    from_logits, from_head = F.cross_entropy(logits, targets), F.linear_cross_entropy(x, weight, targets)
    print(f"\nthe loss of a batch of {N}:")
    print(f"  by hand               {by_hand:.15f}")
    print(f"  cross_entropy         {from_logits.item():.15f}  (subtracts the largest logit: exp cannot overflow)")
    print(f"  linear_cross_entropy  {from_head.item():.15f}  (makes the logits piece by piece, never holds them all)")
    dive.claim(
        "all three are the same",
        max(abs(from_logits.item() / by_hand - 1), abs(from_head.item() / by_hand - 1)) < 1e-14,
    )

    # Its gradient is the simplest there is: what the model said, less what was right, shared among the N tokens.
    # Every wrong token is pushed down by its probability, the right one up by what it lacks to 1.
    right = np.eye(V)[targets]
    expected = (softmax - right) / N
    from_logits.backward()
    from_head.backward()
    print("\nthe first row      " + "".join(f"{i:>9}" for i in range(V)))
    for name, row in (("softmax", softmax[0]), ("one-hot target", right[0]), ("gradient times N", N * logits.grad[0])):
        print(f"  {name:17}" + "".join(f"{value:9.4f}" for value in row))
    dive.claim("gradient = (softmax - onehot) / N", np.abs(logits.grad - expected).max() < 1e-14)
    dive.claim("and through the head times its weight", np.abs(x.grad - expected @ weight.data).max() < 1e-14)
    dive.claim("each row of it sums to 0", np.abs(logits.grad.sum(axis=1)).max() < 1e-14)

    with style():
        figure, axes = new_axes(6.4, 4)
        curve = np.logspace(-7, 0, 200)
        axes.semilogx(curve, -np.log(curve), color=BLUE, label="loss = \N{MINUS SIGN}log(probability)")
        axes.semilogx(p, -np.log(p), "o", color=ORANGE, label=f"the six tokens, mean {loss:.4f}")
        label = f"knowing nothing, log {VOCABULARY} = {equal:.4f}"
        axes.axhline(equal, color=INK, linestyle=":", linewidth=1.2, label=label)
        axes.set(xlabel="Probability of the right token", ylabel="Loss (nats)", ylim=(0, None))
        axes.legend(loc="upper right")
    dive.save(figure, "03_loss_from_scratch")
    return dive.end(f"loss {loss:.4f}, perplexity {np.exp(loss):.0f}, untrained {equal:.4f}")


if __name__ == "__main__":
    sys.exit(main())

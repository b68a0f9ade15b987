// The distribution that a token is sampled from: generation/sampling.py in JavaScript, for one row of logits.

/** Indices of numbers, the largest first; equal ones in their order. */
function descending(values) {
  return Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
}

/** exp(x - shift) for each x, 0 for -Infinity. */
function exponentials(values, shift) {
  return Float64Array.from(values, (x) => Math.exp(x - shift));
}

/** The largest logit alone: temperature 0. */
function greedy(logits) {
  const probabilities = new Float64Array(logits.length);
  probabilities[descending(logits)[0]] = 1;
  return { probabilities, rest: 0, isOpen: false };
}

/** Logits with -Infinity below the k-th largest; those that equal it stay. */
function keepTopK(logits, k) {
  const smallest = logits[descending(logits)[k - 1]];
  return logits.map((x) => (x < smallest ? -Infinity : x));
}

/** Scaled logits with -Infinity where likelier tokens reach p already; isOpen if the tokens left out may be kept. */
function keepTopP(scaled, weights, restWeight, p) {
  const total = weights.reduce((sum, w) => sum + w, restWeight);
  let [before, smallest] = [0, Infinity];
  for (const i of descending(weights)) {
    if (before >= p) break;
    smallest = weights[i];
    before += weights[i] / total;
  }
  const isOpen = restWeight > 0 && before < p;
  return { kept: scaled.map((x, i) => (weights[i] < smallest ? -Infinity : x)), isOpen };
}

/**
 * The distribution of a row of logits.
 *
 * rest: the log of the sum of exp(logit / temperature) over the tokens that the page does not have, or -Infinity.
 * settings: {temperature, topK or null, topP}.
 * Returns the probabilities; rest, the probability of the other tokens; and isOpen, true where top-p keeps an unknown
 * number of those, so that the probabilities are exact to the share of the last token only.
 */
function distribution(logits, rest, settings) {
  if (settings.temperature === 0) return greedy(logits);
  const isCut = settings.topK !== null;
  const kept = isCut ? keepTopK(logits, settings.topK) : logits;
  const scaled = kept.map((x) => x / Math.fround(settings.temperature)); // float32, as in the library
  const shift = scaled.reduce((a, b) => Math.max(a, b));
  const restWeight = isCut ? 0 : Math.exp(rest - shift);
  const weights = exponentials(scaled, shift);
  const total = weights.reduce((sum, w) => sum + w, restWeight);
  if (settings.topP >= 1) {
    return { probabilities: weights.map((w) => w / total), rest: restWeight / total, isOpen: false };
  }
  const cut = keepTopP(scaled, weights, restWeight, settings.topP);
  const left = exponentials(cut.kept, shift);
  const sum = left.reduce((a, b) => a + b, 0);
  const whole = cut.isOpen ? settings.topP * total : sum; // the others fill it up to p
  return { probabilities: left.map((w) => w / whole), rest: 1 - sum / whole, isOpen: cut.isOpen };
}

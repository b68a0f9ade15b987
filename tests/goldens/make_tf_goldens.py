"""Read the stored TensorFlow checkpoint with TensorFlow's own reader, for tests without TensorFlow.

    cd tests && python -m goldens.make_tf_goldens

tests/goldens/gpt2_tf/ holds model.ckpt.* and hparams.json, as OpenAI has GPT-2's.  tensors.npz is what this script
writes beside them: every tensor's name, its shape (filled up with zeros to 3 sizes), and of its numbers, in one row,
the first, the second, the middle one, the last, and their sum in float64.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

FOLDER = Path(__file__).parent / "gpt2_tf"


def write() -> None:
    reader = tf.train.load_checkpoint(str(FOLDER / "model.ckpt"))
    names = sorted(reader.get_variable_to_shape_map())
    shapes, ends = [], []
    for name in names:
        tensor = reader.get_tensor(name)
        flat = tensor.ravel()
        shapes.append([*tensor.shape, 0, 0][:3])
        ends.append([flat[0], flat[1], flat[len(flat) // 2], flat[-1], flat.sum(dtype=np.float64)])
    np.savez_compressed(FOLDER / "tensors.npz", names=names, shapes=shapes, ends=ends)


if __name__ == "__main__":
    write()

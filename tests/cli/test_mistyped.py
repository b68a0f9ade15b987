"""Options as people mistype them, or know them from other projects: taken, corrected, or left without a wrong guess."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.commands import complaint, nanograd, train

from nanograd_gpt.cli import main
from nanograd_gpt.cli.main import COMMANDS, _parsers
from nanograd_gpt.cli.synonyms import NEAR, SYNONYMS, translate
from nanograd_gpt.training.config import preset
from nanograd_gpt.training.synonyms import SYNONYMS as SETTINGS

OPTIONS = {
    name: {option for action in parser._actions for option in action.option_strings}
    for name, parser in _parsers()[1].items()
}

TAKEN = [  # the same setting under another project's name, or in another spelling
    ("train", "--learning-rate", "--lr"),
    ("train", "--learning_rate", "--lr"),
    ("train", "--max-iters", "--max-steps"),
    ("train", "--max_iters", "--max-steps"),
    ("train", "--block-size", "--context-length"),
    ("train", "--block_size", "--context-length"),
    ("train", "--seq-len", "--context-length"),
    ("train", "--n-embd", "--emb-dim"),
    ("train", "--n_embd", "--emb-dim"),
    ("train", "--hidden-size", "--emb-dim"),
    ("train", "--d_model", "--emb-dim"),
    ("train", "--n-head", "--n-heads"),
    ("train", "--num-attention-heads", "--n-heads"),
    ("train", "--n-layer", "--n-layers"),
    ("train", "--num_hidden_layers", "--n-layers"),
    ("train", "--dropout", "--drop-rate"),
    ("train", "--batch_size", "--batch-size"),
    ("train", "--BATCH-SIZE", "--batch-size"),
    ("train", "--per_device_train_batch_size", "--batch-size"),
    ("train", "--eval-interval", "--eval-freq"),
    ("train", "--eval_iters", "--eval-iter"),
    ("train", "--grad-clip", "--max-norm"),
    ("train", "--max_grad_norm", "--max-norm"),
    ("train", "--gradient_accumulation_steps", "--accumulate"),
    ("train", "--warmup_iters", "--warmup-steps"),
    ("train", "--lr_decay_iters", "--decay-steps"),
    ("train", "--num-train-epochs", "--epochs"),
    ("train", "--save_steps", "--checkpoint-every"),
    ("train", "--out_dir", "--out"),
    ("train", "--output-dir", "--out"),
    ("train", "--dataset", "--data"),
    ("train", "--resume-from-checkpoint", "--resume"),
    ("generate", "--temp", "--temperature"),
    ("generate", "--max-tokens", "--max-new-tokens"),
    ("generate", "--max_new_tokens", "--max-new-tokens"),
    ("generate", "--top_k", "--top-k"),
    ("generate", "--num-beams", "--beams"),
    ("generate", "--start", "--prompt"),
    ("generate", "--ckpt-dir", "--model"),
    ("generate", "--model_name_or_path", "--model"),
    ("bench", "--n-embd", "--emb-dim"),
]

CORRECTED = [  # a slip of the finger, or a near miss
    ("train", "--emb-dims", "did you mean '--emb-dim'?"),
    ("train", "--epoch", "did you mean '--epochs'?"),
    ("train", "--ephocs", "did you mean '--epochs'?"),
    ("train", "--dropuot", "did you mean '--drop-rate'?"),
    ("train", "--learnig-rate", "did you mean '--lr'?"),
    ("train", "--contxt-length", "did you mean '--context-length'?"),
    ("train", "--warmup-step", "did you mean '--warmup-steps'?"),
    ("train", "--checkpoint-evry", "did you mean '--checkpoint-every'?"),
    ("train", "--wieght-decay", "did you mean '--weight-decay'?"),
    ("generate", "--temprature", "did you mean '--temperature'?"),
    ("generate", "--repetion-penalty", "did you mean '--repetition-penalty'?"),
    ("train", "--bias", "see --qkv-bias"),
    ("train", "--optimizer", "AdamW is the only optimizer"),
    ("train", "--gpu", "use --device cuda"),
    ("train", "--log-interval", "every update is logged"),
    ("train", "--steps", "use --max-steps"),
    ("train", "--num-workers", "leave it out"),
    ("train", "--beta1", "leave it out: AdamW's betas are 0.9 and 0.999"),
    ("train", "--adam_beta2", "leave it out: AdamW's betas are 0.9 and 0.999"),
    ("train", "--force", "nothing is overwritten"),
    ("train", "--temperature", "samples are greedy"),
    ("train", "--fp16", "use --precision bf16"),
    ("train", "--warmup_ratio", "use --warmup-steps, in updates"),
    ("train", "--logging-steps", "every update is logged"),
    ("train", "--model", "use --init-from to start from weights, --preset for a size, or --resume for a run"),
    ("train", "--model_name_or_path", "use --init-from to start from weights"),
    ("generate", "--greedy", "greedy is the default"),
    ("generate", "--max-length", "use --max-new-tokens"),
]

LEFT_ALONE = [  # nothing here is meant; a guess would mislead
    ("train", "--quiet"),
    ("train", "--verbose"),
    ("train", "--wandb-log"),
    ("generate", "--quiet"),
    ("generate", "--learning-rate"),
    ("generate", "--json"),
    ("gradcheck", "--fast"),
    ("plot", "--bias"),
]


@pytest.mark.parametrize(("command", "typed", "own"), TAKEN)
def test_another_projects_name_is_taken_and_a_note_says_ours(command: str, typed: str, own: str) -> None:
    for written, taken in (([typed, "1"], [own, "1"]), ([f"{typed}=1"], [f"{own}=1"])):
        argv, notes = translate([command, *written], OPTIONS[command])
        assert argv == [command, *taken]
        assert notes == [f"{typed} is called {own} here"]


@pytest.mark.parametrize(("command", "typed", "hint"), CORRECTED)
def test_a_slip_is_corrected(command: str, typed: str, hint: str) -> None:
    error = complaint(nanograd(*needed(command), typed), code=2)
    assert error.startswith(f"nanograd-gpt {command}: {typed!r} is unknown; {hint}")


@pytest.mark.parametrize(("command", "typed"), LEFT_ALONE)
def test_no_guess_is_made_where_none_is_likely(command: str, typed: str) -> None:
    error = complaint(nanograd(*needed(command), typed), code=2)
    assert error == (f"nanograd-gpt {command}: {typed!r} is unknown; nanograd-gpt {command} --help lists all options")


def needed(command: str) -> list[str]:
    """A command with the arguments that it cannot do without."""
    return [command, *{"generate": ["--model", "m"], "plot": ["run"]}.get(command, [])]


WORDS = [  # typed after the program's name; the end of the error
    ("eval", "did you mean nanograd-gpt evaluate?"),
    ("sample", "did you mean nanograd-gpt generate?"),
    ("finetune", "did you mean nanograd-gpt train --init-from MODEL?"),
    ("explain", "did you mean nanograd-gpt explain-next?"),
    ("version", "did you mean nanograd-gpt --version?"),
    ("-V", "did you mean nanograd-gpt --version?"),
    ("trian", "did you mean 'train'?"),
    ("--threads 1 train", "options go after the command: nanograd-gpt train --threads"),
    ("help train extra", "'extra' is one argument too many; give one command: nanograd-gpt help train"),
    ("train help", "did you mean nanograd-gpt help train?"),
    ("train mine.txt", "did you mean --data mine.txt?"),
    ("train the-verdict", "did you mean --data the-verdict?"),
    ("train settings.toml", "did you mean --config settings.toml?"),
    ("train config/train_shakespeare.py", "but from a TOML file: --config FILE.toml"),
    ("train something", "nanograd-gpt train --help lists all options"),
    ("train --qkv-bias True", "--qkv-bias takes no value; write --qkv-bias, or --no-qkv-bias"),
    ("train --no-tied-head false", "--no-tied-head takes no value; write --tied-head, or --no-tied-head"),
    ("train --qkv_bias=True", "takes no value, and got 'True'; see nanograd-gpt train --help"),
    ("train --lr -1e-3", "--lr: -0.001 is not allowed; choose a finite number > 0"),
    ("train --min-lr -.5", "--min-lr: -0.5 is not allowed; choose a finite number >= 0"),
    ("train --init-from resume", "to go on with a run, give --resume RUN"),
    ("train --init-from scratch", "leave it out to start from random weights"),
    ("evaluate a b", "one model is expected"),
    ("evaluate a b.txt", "did you mean --data b.txt?"),
    ("generate a Once", "did you mean --prompt Once?"),
    ("info a b", "one model is expected"),
    ("generate gpt2-smal", "did you mean 'gpt2-small'?"),
    ("generate gpt2_medium", "did you mean 'gpt2-medium'?"),
]


@pytest.mark.parametrize(("typed", "end"), WORDS, ids=[typed for typed, _ in WORDS])
def test_a_word_in_the_wrong_place_leads_to_the_right_one(typed: str, end: str) -> None:
    assert complaint(nanograd(*typed.split()), code=2).endswith(end)


def test_help_help_is_the_help_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["help"], ["help", "help"], ["help", "--help"], ["--help"]):
        with pytest.raises(SystemExit, match=r"^0$"):
            main(argv)
        assert capsys.readouterr().out.startswith("usage: nanograd-gpt [-h] [--version] COMMAND ...")


def test_a_mistyped_path_leads_to_the_one_beside_it(trained: Path) -> None:
    typed = trained.with_name("traind")
    for command in ("generate", "evaluate", "info"):
        message = complaint(nanograd(command, typed), code=2)
        assert message.endswith(f"{typed} does not exist; did you mean '{trained}'?")
    assert complaint(nanograd("train", "--resume", typed), code=2) == (
        f"run: {typed} does not exist; give a directory that `nanograd-gpt train` wrote"
    )


def test_a_run_given_to_train_is_one_to_resume(trained: Path) -> None:
    assert complaint(nanograd("train", trained), code=2).endswith(f"did you mean --resume {trained}?")


@pytest.mark.parametrize("name", [*SYNONYMS, *NEAR])
def test_a_synonym_is_an_option_of_no_command(name: str) -> None:
    assert all(name not in options for options in OPTIONS.values())


def test_what_a_setting_is_called_elsewhere_leads_to_a_setting() -> None:
    known = {name for group in preset("tiny").groups().values() for name in vars(group)}
    assert set(SETTINGS.values()) <= known
    assert not known & set(SETTINGS)


def test_what_follows_two_dashes_is_left_alone() -> None:
    assert translate(["train", "--", "--n-embd"], OPTIONS["train"]).argv == ["train", "--", "--n-embd"]


def test_a_note_does_not_mix_with_the_output(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a river and a mill " * 200, encoding="utf-8")
    argv = train(tmp_path / "run", text, "--dry-run", "--learning_rate", "1e-3")
    code, out, err = nanograd(*argv)
    assert code == 0, err
    assert err == "note: --learning_rate is called --lr here\n"
    assert out.startswith("model ")


def test_a_name_from_elsewhere_in_a_config_file_is_corrected(tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("n_embd = 16", encoding="utf-8")
    error = complaint(nanograd("train", "--config", config), code=2)
    assert error == f"setting in {config}: 'n_embd' is unknown; did you mean 'emb_dim'?"


def test_every_command_is_in_the_table() -> None:
    assert set(OPTIONS) == set(COMMANDS)

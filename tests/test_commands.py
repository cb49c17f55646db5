"""The documented commands as a user types them: subprocesses in a fresh folder, with relative paths.

Each command stands first as the documentation has it; options that make it short follow. Every command of README and
docs is here, or in `ELSEWHERE` with the reason why it cannot be.
"""

from __future__ import annotations

import ast
import glob
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from multimodal.common.records import read_lines

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "Makefile", *sorted((ROOT / "docs").rglob("*.md"))]
SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]

# Documented commands that no machine for tests can run as they are.
ELSEWHERE = {
    "perceiver-train-agent --preset 3m --cluster.ray-address HEAD:6379 --cluster.num-env-runners 6 "
    "--cluster.num-learners 2": "a Ray cluster",
    "perceiver-train-autoencoder --preset small --out /shared/runs/small --data /shared/kinetics "
    "--ray-address HEAD:6379 --num-processes 8 --gpu": "a Ray cluster with GPUs",
    "perceiver-train-autoencoder --preset small --data kinetics/ --out runs/small --gpu --num-processes 4 "
    "--precision bfloat16": "four GPUs",
    "perceiver-train-autoencoder --preset paper --start-from runs/published --data kinetics/ --out runs/mine "
    "--gpu": "a GPU",
    "python -m envs.pysc2.calibration --transport game --out game.json": "StarCraft II",
}
# Options that make a command short.
SHORT_AE = "--steps 4 --checkpoint-every 4 --num-processes 1"
FEW_CLIPS = "--max-windows 1"
SHORT_AGENT = (
    "--world.num-envs 4 --budget.env-steps 256 --cluster.num-env-runners 0 --cluster.num-learners 0"
    " --evaluation.episodes 2 --evaluation.num-envs 2 --evaluation.videos 0"
)
SHORT_TEXT = (
    "--steps 4 --checkpoint-every 4 --batch-size 4 --max-length 64 --num-latents 16 --held-out-rows 4"
    " --cpus-per-process 1"
)
SHORT_TASKS = "--steps 4 --checkpoint-every 4 --batch-size 4"
FEW_EPISODES = "--episodes 2 --num-envs 2 --videos 0"
SCENARIO = """title = "One Marine against another"
source = "this test"
rules = "battle"
map_size = [32, 32]
step_mul = 8
step_limit = 20

[[team]]
at = [9.0, 16.0]
units = [{ type = "Marine", count = 1 }]

[[team]]
opponent = "attack-wave"
units = [{ type = "Marine", count = 1, at = [15.0, 16.0] }]
"""


def words_of(command: str, folder: Path) -> list[str]:
    """`command`, typed in `folder`, for this Python and this source tree; entry points as `pyproject.toml` has them."""
    words = [found for word in shlex.split(command) for found in glob.glob(word, root_dir=folder) or [word]]
    if words[0] in SCRIPTS:
        module, function = SCRIPTS[words[0]].split(":")
        code = f"import sys; from {module} import {function}; sys.exit({function}())"
        return [sys.executable, "-c", code, *words[1:]]
    assert words[:2] == ["python", "-m"], f"no command of the project: {command}"
    return [sys.executable, *words[1:]]


def start(folder: Path, command: str, **changes: str) -> subprocess.Popen[str]:
    """`command` in `folder`, with `changes` of the environment."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "OMP_NUM_THREADS": "1", **changes}
    pipe = subprocess.PIPE
    return subprocess.Popen(words_of(command, folder), cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def run(folder: Path, command: str, shorter: str = "") -> str:
    """What `command` prints in `folder`, made short by the options `shorter`; fails where it fails."""
    process = start(folder, f"{command} {shorter}")
    printed, errors = process.communicate()
    assert process.returncode == 0, f"{command} {shorter}\n{printed}\n{errors}"
    return printed + errors


def documented() -> Iterator[tuple[str, str]]:
    """Page and text of every documented command of the installed packages and of the examples.

    From shell blocks, code in a line, and recipes of the Makefile. Commands of the source tree alone (tests,
    benchmarks) and patterns of commands (`RUN`, `[--option]`, `...`) are left out.
    """
    commands = rf"(?:{'|'.join(SCRIPTS)}|python -m (?:agents|envs|examples|multimodal)\.)\S* .*"
    for page in PAGES:
        text = page.read_text()
        shell = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in shell for line in block.replace("\\\n", " ").splitlines()]
        lines += re.findall(r"`([^`\n]+)`", text)
        if page.name == "Makefile":
            lines += re.findall(r"\t\$\(BIN\)/(.*)", text)
        for line in lines:
            command = " ".join(re.sub(r"\s+#.*", "", line).split())
            if re.fullmatch(commands, command) and not re.search(r"\.\.\.|\[|\bRUN\b|<", command):
                yield page.name, command


def test_every_documented_command_is_tried_here() -> None:
    found = set(documented())
    assert len(found) > 20
    nodes = ast.walk(ast.parse(Path(__file__).read_text()))
    here = {node.value for node in nodes if isinstance(node, ast.Constant)}
    left = [f"{page}: {command}" for page, command in sorted(found) if command not in here]
    assert not left, "\n".join(left)
    assert set(ELSEWHERE) <= {command for _, command in found}, "ELSEWHERE names what is not documented any more"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with generated clips in `clips`, and a trained autoencoder with its generated clips in `runs/ae`."""
    folder = tmp_path_factory.mktemp("home")
    run(folder, "python -m multimodal.clips.make_clips synthetic --out clips", "--clips.clips-per-class 4")
    shutil.copytree(folder / "clips", folder / "runs/ae/generated")
    printed = run(folder, "perceiver-train-autoencoder --out runs/ae", SHORT_AE)
    assert "trained" in printed and "generating" not in printed
    shutil.copy(next((folder / "clips").rglob("*.mp4")), folder / "clip.mp4")
    return folder


def test_training_stays_where_it_was_told_to(home: Path) -> None:
    assert (home / "runs/ae/checkpoints/step-00000004").is_dir()
    assert {path.name for path in home.iterdir()} >= {"clips", "runs"}
    assert {path.name for path in (home / "runs").iterdir()} >= {"ae"}


def test_own_clips_from_another_run(home: Path) -> None:
    more = "--start-from runs/ae --loader.cache.folder decoded"
    run(home, "perceiver-train-autoencoder --out runs/mine --data clips", f"{SHORT_AE} {more}")
    assert (home / "runs/mine/checkpoints/step-00000004").is_dir()
    assert list((home / "decoded").iterdir())


def test_evaluation(home: Path) -> None:
    run(home, "perceiver-evaluate-autoencoder runs/ae", FEW_CLIPS)
    assert (home / "runs/ae/evaluation/evaluation.html").is_file()


@pytest.fixture(scope="module")
def as_typed(home: Path) -> Path:
    """A run folder as version 0.1 left it, with the paths as they were typed: a copy of `runs/ae` in `runs/typed`."""
    shutil.copytree(home / "runs/ae", home / "runs/typed", ignore=shutil.ignore_patterns("generated", "evaluation"))
    file = home / "runs/typed/run.json"
    identity = json.loads(file.read_text())
    identity["training"]["data"] = "clips"
    file.write_text(json.dumps(identity))
    return home


def test_a_run_is_evaluated_from_another_folder(home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    run(elsewhere, "perceiver-evaluate-autoencoder ../runs/ae --out here", f"{FEW_CLIPS} --data ../clips")
    assert json.loads((elsewhere / "here/evaluation.json").read_text())["data"] == str(home / "clips")


def test_a_run_of_version_0_1_is_evaluated_and_continued(as_typed: Path) -> None:
    from multimodal.autoencoder.commands import data_folder
    from multimodal.autoencoder.runs import RunInfo, check_same_run, load_run
    from multimodal.common.errors import DataError

    before = Path.cwd()
    try:
        os.chdir(as_typed)
        assert data_folder("runs/typed", None) == str(as_typed / "clips")
        begun = load_run("runs/typed")
        check_same_run(Path("runs/typed"), begun)
        moved = RunInfo(
            model=begun.model, classes=begun.classes, training=dict(begun.training) | {"data": str(as_typed / "other")}
        )
        with pytest.raises(DataError, match="other settings"):
            check_same_run(Path("runs/typed"), moved)
        os.chdir(before)
        check_same_run(as_typed / "runs/typed", begun)
    finally:
        os.chdir(before)


@pytest.mark.slow
def test_a_run_of_version_0_1_goes_on_as_typed(as_typed: Path) -> None:
    run(as_typed, "perceiver-evaluate-autoencoder runs/typed", FEW_CLIPS)
    assert "trained" in run(as_typed, "perceiver-train-autoencoder --out runs/typed --data clips", SHORT_AE)


def test_reconstruction(home: Path) -> None:
    run(home, "perceiver-reconstruct runs/ae clip.mp4 --out out.mp4 --side-by-side")
    assert (home / "out.mp4").stat().st_size > 0


def test_compression_curve(home: Path) -> None:
    run(home, "python -m multimodal.autoencoder.compression runs/ae --out curve/", f"{FEW_CLIPS} --codec-clips 1")
    assert (home / "curve/compression.png").is_file()


@pytest.mark.slow
def test_the_tutorial_on_own_clips(home: Path, tmp_path: Path) -> None:
    (tmp_path / "clips").symlink_to(home / "clips")
    for _ in range(2):  # the same command continues
        printed = run(tmp_path, "perceiver-train-autoencoder --out runs/mine --data clips", SHORT_AE)
        assert "trained" in printed
    run(tmp_path, "perceiver-evaluate-autoencoder runs/mine", FEW_CLIPS)
    run(tmp_path, "perceiver-train-autoencoder --out runs/mine-8 --data clips --num-latents 8", SHORT_AE)
    shorter = f"{FEW_CLIPS} --codec-clips 1"
    run(tmp_path, "python -m multimodal.autoencoder.compression runs/mine runs/mine-8 --out curve/", shorter)
    (tmp_path / "clips").unlink()
    (tmp_path / "clips/train/dog").mkdir(parents=True)
    shutil.copy(home / "clip.mp4", tmp_path / "clips/train/dog/a.mp4")
    run(tmp_path, "perceiver-reconstruct runs/mine clips/train/dog/a.mp4 --out out.mp4 --side-by-side")
    assert (tmp_path / "out.mp4").is_file() and (tmp_path / "curve/compression.png").is_file()


@pytest.mark.slow
def test_the_measurements_of_the_autoencoder(home: Path, tmp_path: Path) -> None:
    shutil.copytree(home / "runs/ae", tmp_path / "runs/ae")
    for command in (
        "perceiver-train-autoencoder --data runs/ae/generated --out runs/ae-8 --num-latents 8",
        "perceiver-train-autoencoder --data runs/ae/generated --out runs/ae-32 --num-latents 32",
        "perceiver-train-autoencoder --data runs/ae/generated --out runs/ae-picture --loss.audio.hide 1"
        " --loss.video.hide 0",
        "perceiver-train-autoencoder --data runs/ae/generated --out runs/ae-sound --loss.video.hide 1"
        " --loss.audio.hide 0",
    ):
        run(tmp_path, command, SHORT_AE)
    shorter = f"{FEW_CLIPS} --codec-clips 1"
    run(tmp_path, "python -m multimodal.autoencoder.compression runs/ae-8 runs/ae runs/ae-32 --out curve/", shorter)
    assert (tmp_path / "curve/compression.png").is_file()


@pytest.mark.slow
def test_the_default_run_generates_its_clips(tmp_path: Path) -> None:
    assert "generating" in run(tmp_path, "perceiver-train-autoencoder --out runs/ae", SHORT_AE)
    run(tmp_path, "perceiver-evaluate-autoencoder runs/ae", FEW_CLIPS)


@pytest.mark.slow
def test_a_published_checkpoint(home: Path, tmp_path: Path) -> None:
    """A folder in the place of the repository of that name: random weights of the published sizes."""
    from tests.perceiver_core.huggingface import FULL, save_random

    (full,) = [case for case in FULL if case.name == "PerceiverForMultimodalAutoencoding"]
    save_random(full, tmp_path / "deepmind/multimodal-perceiver", seed=0)
    shutil.copy(home / "clip.mp4", tmp_path / "clip.mp4")
    run(tmp_path, "python -m multimodal.autoencoder.published deepmind/multimodal-perceiver --out runs/published")
    run(tmp_path, "perceiver-reconstruct runs/published clip.mp4 --out out.mp4")
    assert (tmp_path / "out.mp4").is_file()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_saves_and_says_how_to_go_on(home: Path, number: int, code: int) -> None:
    out = home / f"runs/interrupted-{code}"
    arguments = f"--out runs/interrupted-{code} --data clips --steps 100000 --log-every 1 --checkpoint-every 100000"
    process = start(home, f"perceiver-train-autoencoder {arguments}")
    while not read_lines(out / "metrics.jsonl"):
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    printed = "".join(process.communicate())
    assert process.returncode == code, printed
    done = read_lines(out / "metrics.jsonl")[-1]["step"]
    assert (out / f"checkpoints/step-{done:08d}").is_dir()
    assert f"saved at step {done}" in printed
    assert f"perceiver-train-autoencoder {arguments}" in printed


def test_what_can_never_start_is_refused_at_once(home: Path) -> None:
    process = start(home, "perceiver-train-autoencoder --out runs/gpu --gpu", CUDA_VISIBLE_DEVICES="")
    _, errors = process.communicate()
    assert process.returncode == 1 and "error: --gpu asks for 1 GPU(s)" in errors
    assert "Traceback" not in errors and not (home / "runs/gpu").exists()


def labelled_table(folder: Path) -> None:
    """Train and test tables in `reviews`, with the tutorial's columns."""
    for part in ("train", "test"):
        lines = [f"a film of {('joy', 'dullness')[number % 2]} {number}\t{'np'[number % 2]}" for number in range(40)]
        (folder / "reviews").mkdir(exist_ok=True)
        (folder / f"reviews/{part}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n")


def corpus(folder: Path) -> None:
    """Text files in `corpus`."""
    (folder / "corpus").mkdir()
    for number in range(8):
        lines = (f"Line {line} of text {number} is about nothing." for line in range(400))
        (folder / f"corpus/{number}.txt").write_text("\n".join(lines))


def test_own_text_is_pretrained_and_trained_on(tmp_path: Path) -> None:
    corpus(tmp_path)
    labelled_table(tmp_path)
    printed = run(tmp_path, "perceiver-pretrain-text --data corpus/ --out runs/mine --mask-unit words", SHORT_TEXT)
    assert "bits a byte on held-out text" in printed
    (tmp_path / "runs/mine").rename(tmp_path / "runs/text")
    printed = run(
        tmp_path,
        "perceiver-finetune-text --start-from runs/text --data reviews/ --text-columns text --label-column label"
        " --out runs/reviews",
        SHORT_TASKS,
    )
    assert "n-gram regression" in printed
    assert (tmp_path / "runs/reviews/evaluation/evaluation.html").is_file()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(elsewhere, "perceiver-evaluate-text ../runs/reviews --out here")
    assert (elsewhere / "here/evaluation.json").is_file()


@pytest.mark.slow
def test_the_tutorial_on_text(tmp_path: Path) -> None:
    for _ in range(2):  # the same command continues
        run(tmp_path, "perceiver-pretrain-text --out runs/text", SHORT_TEXT)
    run(tmp_path, 'perceiver-fill-mask runs/text "Returns the maximum val[MASK][MASK] of an array along an axis."')
    run(tmp_path, "perceiver-finetune-text --start-from runs/text --out runs/tasks", SHORT_TASKS)
    run(tmp_path, "perceiver-evaluate-text runs/tasks")
    run(tmp_path, "perceiver-pretrain-text --objective next --out runs/next", SHORT_TEXT)
    run(tmp_path, 'perceiver-generate-text runs/next --prompt "Returns the"')
    for name, text in {
        "CoLA": "a\t1\t\tA sentence.\na\t0\t*\tSentence a.\n",
        "MRPC": "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t1\t2\ta\tb\n0\t3\t4\tc\td\n",
        "STS-B": "sentence1\tsentence2\tscore\na\tb\t4.5\nc\td\t1.0\n",
    }.items():
        (tmp_path / "glue_data" / name).mkdir(parents=True)
        for part in ("train", "dev"):
            (tmp_path / f"glue_data/{name}/{part}.tsv").write_text(text)
    run(
        tmp_path,
        "perceiver-finetune-text --start-from runs/text --data glue_data --tasks cola mrpc stsb --out runs/glue",
        SHORT_TASKS,
    )


@pytest.mark.slow
def test_the_measurements_of_language(tmp_path: Path) -> None:
    run(tmp_path, "perceiver-pretrain-text --steps 1000 --out runs/text", SHORT_TEXT)
    for folder, header in (("movie_sentiment", "score"), ("language_id", "language")):
        (tmp_path / folder).mkdir()
        for part in ("train", "test"):
            lines = [f"{(-1.5, 2.0)[number % 2]}\tText number {number}." for number in range(40)]
            (tmp_path / folder / f"{part}.tsv").write_text("\n".join([f"{header}\ttext", *lines]) + "\n")
    run(
        tmp_path,
        "perceiver-finetune-text --start-from runs/text --data movie_sentiment --label-column score"
        " --sign-margin 0.5 --steps 400 --out runs/reviews",
        SHORT_TASKS,
    )
    run(
        tmp_path,
        "perceiver-finetune-text --data language_id --label-column language --max-length 128 --num-latents 64"
        " --steps 1200 --hide-share 0.1 --out runs/languages",
        SHORT_TASKS,
    )
    run(
        tmp_path,
        "perceiver-finetune-text --data movie_sentiment --label-column score --sign-margin 0.5 --steps 400"
        " --out runs/reviews-nothing",
        f"{SHORT_TASKS} --max-length 64 --num-latents 16",
    )
    run(
        tmp_path,
        "perceiver-finetune-text --start-from runs/text --hide-share 0.1 --out runs/tasks",
        SHORT_TASKS,
    )
    (tmp_path / "film").mkdir()
    (tmp_path / "film/train.txt").write_text("A film of joy.\nA film of dullness.\n" * 8000)
    run(
        tmp_path,
        "perceiver-pretrain-text --data film --tokens wordpiece --vocabulary 6000 --max-length 64 --num-latents 32"
        " --steps 400 --out runs/film-words",
        "--steps 4 --batch-size 4 --held-out-rows 4",
    )
    run(
        tmp_path,
        "perceiver-finetune-text --start-from runs/film-words --data movie_sentiment --label-column score"
        " --sign-margin 0.5 --steps 400 --hide-share 0.1 --out runs/reviews-words",
        SHORT_TASKS,
    )
    run(tmp_path, "perceiver-pretrain-text --objective next --steps 600 --out runs/ar", SHORT_TEXT)
    run(
        tmp_path,
        "perceiver-pretrain-text --objective next --encoder transformer --steps 600 --out runs/ar-transformer",
        SHORT_TEXT,
    )
    shorter = SHORT_TEXT.replace("--", "--pretraining.") + " --finetuning.steps 2 --finetuning.batch-size 4"
    run(tmp_path, "python -m multimodal.language.comparison --out cmp --seeds 1 --pretraining.steps 600", shorter)
    few = "--finetuning.steps 2 --finetuning.batch-size 4"
    sizes = "--finetuning.max-length 64 --finetuning.num-latents 16"
    run(tmp_path, "python -m multimodal.language.ways --out ways --seeds 1 --finetuning.steps 400", f"{few} {sizes}")
    run(tmp_path, "python -m multimodal.language.latents --out latents --counts 2 8 32 128", few)


@pytest.mark.slow
def test_contests_on_text(tmp_path: Path) -> None:
    few = "--seeds 1 --finetuning.steps 2 --finetuning.batch-size 4"
    shorter = SHORT_TEXT.replace("--", "--pretraining.")
    run(tmp_path, "python -m multimodal.language.comparison --out runs/comparison", f"{few} {shorter}")
    assert (tmp_path / "runs/comparison/comparison.html").is_file()
    sizes = "--finetuning.max-length 64 --finetuning.num-latents 16"
    run(tmp_path, "python -m multimodal.language.ways --out runs/ways", f"{few} {sizes}")
    assert (tmp_path / "runs/ways/ways.html").is_file()
    run(tmp_path, "python -m multimodal.language.latents --out runs/latents", f"{few} --counts 2 4")
    assert (tmp_path / "runs/latents/latents.png").is_file()


def test_an_agent_trains_is_evaluated_elsewhere_and_resumes(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SCENARIO)
    command = "perceiver-train-agent --world.scenario mine.toml --budget.minutes 3"
    run(tmp_path, command, SHORT_AGENT.replace("--cluster.num-env-runners 0", "--cluster.num-env-runners 1"))
    (folder,) = (tmp_path / "runs").iterdir()
    folder.rename(tmp_path / "runs/mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(elsewhere, "perceiver-evaluate-agent ../runs/mine --checkpoint ../runs/mine/checkpoints/*", FEW_EPISODES)
    assert len(list((tmp_path / "runs/mine/evaluations").iterdir())) == 2
    run(elsewhere, "perceiver-train-agent --resume ../runs/mine --budget.minutes 20", "--budget.env-steps 384")
    assert not list(elsewhere.iterdir())


@pytest.mark.slow
def test_the_tutorial_on_agents(tmp_path: Path) -> None:
    run(tmp_path, "perceiver-train-agent --preset 3m", SHORT_AGENT)
    (folder,) = (tmp_path / "runs").iterdir()
    folder.rename(tmp_path / "runs/3m-20260101-120000")
    run(tmp_path, "perceiver-evaluate-agent runs/3m-20260101-120000", FEW_EPISODES)
    run(
        tmp_path,
        "perceiver-evaluate-agent runs/3m-20260101-120000 --episodes 400 --opponents attack-wave kite --workers 2",
        FEW_EPISODES,
    )
    resumed = "perceiver-train-agent --resume runs/3m-20260101-120000 --budget.minutes 20"
    run(tmp_path, resumed, "--budget.env-steps 384")
    for command in (
        "perceiver-train-agent --preset 3m --network.encoder transformer --budget.minutes 10",
        "perceiver-train-agent --preset 8m",
    ):
        run(tmp_path, command, SHORT_AGENT)
    assert len(list((tmp_path / "runs").iterdir())) == 3


def test_an_expert_is_recorded_and_cloned(tmp_path: Path) -> None:
    few = "--episodes 4 --world.num-envs 4"
    run(tmp_path, "perceiver-clone-agent record --folder demos --player focus-fire --world.scenario 2s3z", few)
    run(tmp_path, "perceiver-clone-agent train --recording demos --run runs/clone", "--epochs 1")
    assert (tmp_path / "runs/clone/config.json").is_file()


@pytest.mark.slow
def test_a_clone_learns_on(tmp_path: Path) -> None:
    few = "--episodes 4 --world.num-envs 4"
    run(tmp_path, "perceiver-clone-agent record --folder demos --player focus-fire --world.scenario 2s3z", few)
    run(
        tmp_path,
        "perceiver-clone-agent train --recording demos --run runs/clone --network.channels 64 --network.num-heads 2 "
        "--network.num-layers 1 --network.num-latents 8",
        "--epochs 1",
    )
    run(tmp_path, "perceiver-clone-agent record --folder again --player runs/clone --world.scenario 2s3z", few)
    run(tmp_path, "perceiver-train-agent --preset 2s3z --initial-weights runs/clone/checkpoints/*", SHORT_AGENT)


@pytest.mark.slow
def test_agents_behind_pysc2(tmp_path: Path) -> None:
    run(tmp_path, "perceiver-train-agent --preset 3m", f"--run runs/mine {SHORT_AGENT}")
    run(tmp_path, "perceiver-evaluate-agent runs/mine --backend pysc2", FEW_EPISODES)
    run(
        tmp_path,
        "perceiver-train-agent --preset 3m --backend pysc2 --world.num-envs 8 --learning.teacher None",
        SHORT_AGENT,
    )


@pytest.mark.slow
def test_self_play(tmp_path: Path) -> None:
    run(
        tmp_path,
        "perceiver-train-agent --preset 3m-self-play --cluster.num-env-runners 0 --cluster.num-cpus 1"
        " --budget.minutes 16",
        SHORT_AGENT,
    )


def test_the_server_lists_its_maps(tmp_path: Path) -> None:
    assert "3m" in run(tmp_path, "perceiver-sc2-server maps")


def test_the_server_serves_until_it_is_stopped(tmp_path: Path) -> None:
    command = "perceiver-sc2-server serve --port 5000"
    process = start(tmp_path, f"{command} --port 0")  # any free port: the last word counts
    assert process.stdout is not None
    assert "Serving on ws://127.0.0.1:" in process.stdout.readline()
    process.terminate()
    _, errors = process.communicate()
    assert process.returncode == 0, errors


@pytest.mark.slow
def test_the_server_is_installed(tmp_path: Path) -> None:
    printed = run(tmp_path, "perceiver-sc2-server install sc2-simulator")
    assert f"export SC2PATH={tmp_path / 'sc2-simulator'}" in printed


def test_digits(tmp_path: Path) -> None:
    run(tmp_path, "python -m examples.train_digits --out runs/digits", "--epochs 1")
    assert (tmp_path / "runs/digits/metrics.json").is_file()


@pytest.mark.slow
def test_pictures_and_calibration(tmp_path: Path) -> None:
    run(tmp_path, "python -m envs.gallery pictures")
    assert (tmp_path / "pictures/MMM.gif").is_file()
    run(tmp_path, "python -m envs.pysc2.calibration --transport memory --out game.json")
    run(tmp_path, "python -m envs.pysc2.calibration --recorded game.json --out again.json")
    assert (tmp_path / "again.json").is_file()

"""Saving and loading models by the hub's conventions: a folder with `config.json` and `model.safetensors`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from perceiver_core.config import from_json, to_json

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


def locate(folder_or_hub_id: str | Path, filename: str, revision: str | None = None) -> Path | None:
    """A file of a local folder, or of a hub repository's cache or download; None if it has no such file."""
    folder = Path(folder_or_hub_id)
    if folder.is_dir():
        return folder / filename if (folder / filename).is_file() else None
    name = str(folder_or_hub_id)
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise FileNotFoundError(f"no folder {folder_or_hub_id}")
    try:
        return Path(hf_hub_download(name, filename, revision=revision))
    except EntryNotFoundError:
        return None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise FileNotFoundError(f"{name!r} is neither a folder nor a hub repository within reach: {error}") from error


def require(folder_or_hub_id: str | Path, filename: str, revision: str | None = None) -> Path:
    """`locate`, or an error that says where it looked."""
    path = locate(folder_or_hub_id, filename, revision)
    if path is not None:
        return path
    if Path(folder_or_hub_id).is_dir():
        raise FileNotFoundError(f"{folder_or_hub_id} has no {filename}")
    raise FileNotFoundError(
        f"{folder_or_hub_id} is no local folder, and the hub (without a network: its cache) has no {filename} of it"
    )


def read_config(path: Path) -> dict[str, Any]:
    """Read a JSON object; errors name the file."""
    try:
        data = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(data).__name__}")
    return data


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file; errors name the file."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or a damaged one: {error}") from error


def load_weights(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    source: str | Path,
    file_name: Callable[[str], str] = lambda name: name,
    keep: Collection[str] = (),
) -> None:
    """Give a module (on any device, also meta) its weights.

    Args:
        module: the module; its parameters are replaced by the tensors.
        weights: tensors by their name in the file.
        source: the file, for errors.
        file_name: from the module's name of a parameter to the file's.
        keep: the module's names of parameters that keep their values, whatever the file has.

    Raises:
        ValueError: keys are missing, unexpected or of another shape, or a buffer that no file holds was made on the
            meta device; all of them are named.
    """
    own = module.state_dict()
    weights = {**weights, **{file_name(name): own[name] for name in keep}}
    expected = {file_name(name): (name, tensor.shape) for name, tensor in own.items()}
    problems = [f"missing `{key}` {list(shape)}" for key, (_, shape) in expected.items() if key not in weights]
    problems += [f"unexpected `{key}` {list(tensor.shape)}" for key, tensor in weights.items() if key not in expected]
    problems += [
        f"`{key}` has shape {list(weights[key].shape)}, expected {list(shape)}"
        for key, (_, shape) in expected.items()
        if key in weights and weights[key].shape != shape
    ]
    if problems:
        raise ValueError(f"{source}: the weights do not fit: {'; '.join(problems)}")
    module.load_state_dict({name: weights[key] for key, (name, _) in expected.items()}, assign=True)
    left = [name for name, buffer in module.named_buffers() if buffer.is_meta]
    if left:
        raise ValueError(
            f"{source}: {', '.join(left)} have no values, since models are built on the meta device before their "
            "weights are read; make tables that are not saved on the CPU there, as `FourierPosition` does"
        )
    dtypes = {tensor.dtype for tensor in weights.values() if tensor.is_floating_point()}
    if len(dtypes) == 1:
        # What is computed rather than stored (Fourier tables) follows the weights' precision.
        module.to(dtypes.pop())


class HubModel(nn.Module):
    """A module made from one configuration, which can be saved to a folder and loaded from it or from the hub."""

    config: Any

    def save_pretrained(self, folder: str | Path) -> None:
        """Write `config.json` and `model.safetensors` into `folder`, which is created; older ones are replaced."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        data = {"library_name": "perceiver_core", "model": type(self).__name__, "config": to_json(self.config)}
        (folder / CONFIG_FILE).write_text(json.dumps(data, indent=2) + "\n")
        weights = {key: tensor.contiguous() for key, tensor in self.state_dict().items()}
        save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder_or_hub_id: str | Path, *, revision: str | None = None) -> Self:
        """Load what `save_pretrained` wrote, on the CPU and in evaluation mode.

        Args:
            folder_or_hub_id: a local folder (no network is used), or a hub repository `"owner/name"`.
            revision: branch, tag or commit of the hub repository.

        Raises:
            FileNotFoundError: no such folder or repository, or a file is missing in it.
            ValueError: a file is damaged or of another model; names the file and what is wrong in it.
        """
        config_path = require(folder_or_hub_id, CONFIG_FILE, revision)
        data = read_config(config_path)
        if data.get("library_name") != "perceiver_core":
            hint = "; use perceiver_core.pretrained.load" if data.get("model_type") == "perceiver" else ""
            raise ValueError(f"{config_path}: not a configuration of perceiver_core{hint}")
        if data.get("model") != cls.__name__:
            raise ValueError(f"{config_path}: holds a {data.get('model')}, not a {cls.__name__}")
        config = from_json(data.get("config"), config_path)
        weights_path = require(folder_or_hub_id, WEIGHTS_FILE, revision)
        try:
            with torch.device("meta"):
                model = cls(config)
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"{config_path}: no configuration of a {cls.__name__}: {error}") from error
        load_weights(model, read_safetensors(weights_path), weights_path)
        return model.eval()

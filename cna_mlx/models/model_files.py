"""Check the small files of a model before mlx-lm and transformers read them."""

import re
from pathlib import Path
from typing import Any

from cna_mlx.errors import ModelError
from cna_mlx.models.offload.rows import layers_of
from cna_mlx.neurons import MOST_LAYERS
from cna_mlx.util.reading import LARGEST_SETTINGS, BeyondLimits, parse_json, read_file

_SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "model.safetensors.index.json",
)
_INDEX = _SETTINGS[-1]
_TEMPLATES = "*.jinja"
_LARGEST_TEMPLATE = 1_000_000
# mlx-lm imports modules of these names.
_MODULES = ("chat_template_type", "tool_parser_type")
_NAME = re.compile(r"\w+")


def check_model_files(path: Path, name: str) -> None:
    """Check the size, depth and type of a model's settings and templates.

    What is not JSON is left to its reader, which reports it.

    Raises:
        ModelError: a file is beyond what any model needs.
    """
    for file in (path / one for one in _SETTINGS):
        if (found := _read(file, name, LARGEST_SETTINGS)) is None:
            continue
        for key in _MODULES:
            if not _NAME.fullmatch(str(found.get(key) or "none")):
                raise ModelError(
                    f"{name}: {file.name} has the {key} {found[key]!r:.80}, which is "
                    "not a name; fetch it again"
                )
        length = found.get("model_max_length", 0)
        if not isinstance(length, int | float):
            raise ModelError(
                f"{name}: {file.name} has the model_max_length {length!r:.80}, which "
                "is not a number; fetch it again"
            )
    for file in path.glob(_TEMPLATES):
        _read(file, name, _LARGEST_TEMPLATE)


def check_layers(path: Path, config: dict[str, Any], name: str) -> None:
    """Check the headers of the weights, and that they have the layers of config.json.

    Raises:
        ModelError: a header is beyond what any model needs, or layers are missing.
    """
    count, found = config.get("num_hidden_layers"), set()
    for file in path.glob("model*.safetensors"):
        try:
            found |= layers_of(file)
        except BeyondLimits as error:
            raise ModelError(
                f"{name}: the header of {file.name} has {error}; fetch it again"
            ) from None
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return  # the load reports it
    is_whole = not (path / _INDEX).exists()  # or a missing file is reported by its name
    if isinstance(count, int) and (
        count > MOST_LAYERS or (found and is_whole and count > len(found))
    ):
        raise ModelError(
            f"{name}: config.json says {count:,} layers, and the weights have "
            f"{len(found):,}: fetch both again"
        )


def _read(file: Path, name: str, most: int) -> dict[str, Any] | None:
    """The object in a file; None if there is no such file, or no object in it."""
    if not file.exists():
        return None
    try:
        content = read_file(file, most)
        found = parse_json(content) if file.suffix == ".json" else None
    except BeyondLimits as error:
        raise ModelError(f"{name}: {file.name} has {error}; fetch it again") from None
    except ValueError:
        return None
    except OSError as error:
        raise ModelError(
            f"{name}: {file.name} cannot be read ({error.strerror}); fetch it again"
        ) from None
    return found if isinstance(found, dict) else None

"""Import mlx-lm; tests/test_contracts.py pins what goes beyond its documented API."""
# ruff: noqa: E402  # the check comes before the import

from cna_mlx.models.open_files import check_open_files

check_open_files()  # mlx_lm raises the limit when it is imported

from mlx_lm import stream_generate as stream_generate
from mlx_lm.models.activations import swiglu as swiglu
from mlx_lm.models.activations import swiglu_oai as swiglu_oai
from mlx_lm.models.cache import ArraysCache as ArraysCache
from mlx_lm.models.cache import BatchKVCache as BatchKVCache
from mlx_lm.models.cache import BatchRotatingKVCache as BatchRotatingKVCache
from mlx_lm.models.cache import ConcatenateKVCache as ConcatenateKVCache
from mlx_lm.models.cache import KVCache as KVCache
from mlx_lm.models.cache import LRUPromptCache as LRUPromptCache
from mlx_lm.models.cache import RotatingKVCache as RotatingKVCache
from mlx_lm.models.cache import can_trim_prompt_cache as can_trim_prompt_cache
from mlx_lm.models.cache import make_prompt_cache as make_prompt_cache
from mlx_lm.models.cache import trim_prompt_cache as trim_prompt_cache
from mlx_lm.models.ssm import ssm_attn as ssm_attn
from mlx_lm.sample_utils import apply_top_p as apply_top_p
from mlx_lm.utils import _get_classes
from mlx_lm.utils import load_config as load_config
from mlx_lm.utils import load_model as load_model
from mlx_lm.utils import load_tokenizer as load_tokenizer

#: config.json -> the model's class and that of its arguments.
model_classes = _get_classes

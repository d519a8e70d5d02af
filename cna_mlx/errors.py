"""The tree of errors, with their exit codes.

    CnaError                   exit code 1: it failed on the way
    ├── NonFiniteError         NaN or infinity in the activations
    ├── HubError               the network or the Hub failed
    ├── OutOfMemoryError       the device ran out of memory
    ├── ThreadError            a model that another thread is steering
    └── RequestError           exit code 2: mend the request
        ├── InputError         a file, prompt set or value that cannot be used
        ├── ModelError         a model that cannot be found, read or fitted
        │   └── UnsupportedModelError   no family entry for its MLP blocks
        └── CircuitError       a circuit that cannot be read or does not fit
            └── TransferError  made on other weights of the same shape

A message is one line: what, where, and what to do about it.
"""


class CnaError(Exception):
    """The root: something failed on the way."""

    exit_code = 1


class NonFiniteError(CnaError):
    """The activations contain NaN or infinity; nothing is ranked.

    Attributes:
        layer: the first such layer.
        prompt: the position of the first such prompt.
    """

    def __init__(self, layer: int, prompt: int, name: str | None = None) -> None:
        super().__init__(
            f"layer {layer} has NaN or infinite activations for "
            f"{name or f'prompt {prompt + 1}'}; nothing was ranked: try the model in "
            "bf16 or float32, or fetch its weights again"
        )
        self.layer, self.prompt = layer, prompt


class HubError(CnaError):
    """The network or the Hugging Face Hub failed."""


class OutOfMemoryError(CnaError):
    """The device ran out of memory in the middle of the work."""


class ThreadError(CnaError):
    """A model was used while another thread steers it."""


class RequestError(CnaError):
    """The request cannot be met as it stands; the message says how to mend it."""

    exit_code = 2


class InputError(RequestError):
    """A file, a prompt set or a value cannot be used."""


class ModelError(RequestError):
    """A model cannot be found, read or fitted into memory."""


class UnsupportedModelError(ModelError):
    """The model's MLP blocks are of a kind that has no family entry."""


class CircuitError(RequestError):
    """A circuit cannot be read, or does not fit the model."""


class TransferError(CircuitError):
    """The circuit was made on other weights of the same shape."""

"""What is used of transformers beyond its documented API; see tests/test_contracts.py.

Nothing of transformers is imported here: its tokenizers are handed in.
"""

import json
import re
from datetime import date, datetime
from typing import Any

# transformers warns of a long text once; this is the name of that warning.
_TOO_LONG = "sequence-length-is-longer-than-the-specified-maximum"
_DIRECTIVE = re.compile(r"%-?[aAbBcdHIjmMpSUwWxXyY]")


def silence_length_warning(tokenizer: Any) -> None:
    """Let a tokenizer encode long texts without a warning: lengths are checked here."""
    tokenizer.deprecation_warnings[_TOO_LONG] = True


def dated_template(tokenizer: Any, day: date) -> str | None:
    """The chat template with a fixed date; None if it does not print today's.

    transformers gives templates its own ``strftime_now`` and accepts no other function;
    a macro of that name takes precedence.

    Args:
        tokenizer: with its ``chat_template``.
    """
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):  # several templates by name
        template = template.get("default")
    if not isinstance(template, str) or "strftime_now" not in template:
        return None
    today = datetime.combine(day, datetime.min.time())
    filters = "".join(
        f" | replace({json.dumps(directive)}, {json.dumps(today.strftime(directive))})"
        for directive in sorted(set(_DIRECTIVE.findall(template)))
    )
    # +%} keeps the template's own first newline
    macro = f"{{% macro strftime_now(format) -%}}{{{{ format{filters} }}}}"
    return f"{macro}{{%- endmacro +%}}{template}"

"""``docs/README.md``: the model card that a new bundle starts with, for its maker to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medtranslate.bundle.facts import Facts
from medtranslate.modality import Modality

_TEXT = """# {name}

{description}
**Synthetic. Not for diagnosis, dose, attenuation or bone.**

| | |
| --- | --- |
| version | {version} |
| makes | {makes} |
| network | {network} |
| data | {data} |
| training | {training} |
| licence | {license} |

What the model is good at, where it fails and on whose scans it was measured is its maker's to say.

```
medtranslate convert SCAN --to {to} --bundle .
python -m monai.bundle run --config_file configs/inference.yaml --bundle_root . --input SCAN
```
"""


def model_card(content: Mapping[str, Any], facts: Facts) -> str:
    """Write the card of a model.

    Parameters
    ----------
    content : mapping
        Of its ``model.yaml``.
    facts : Facts
        What people say of it.
    """
    targets = list(content["generators"])
    return _TEXT.format(
        name=facts.title or content["name"],
        version=content["version"],
        description=facts.description,
        makes=", ".join(Modality.parse(to).direction for to in targets),
        network=content["generators"][targets[0]]["network"]["_target_"].rpartition(".")[2],
        data=facts.data_source,
        training=_training(facts.training),
        license=facts.license,
        to=targets[0],
    )


def _training(training: Mapping[str, Any]) -> str:
    told = [f"{value} {key}" for key, value in training.items() if key in ("steps", "epochs")]
    return ", ".join(told) or "not stated"

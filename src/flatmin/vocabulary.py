"""The names that a study may use, gathered from the packages that define them."""

from __future__ import annotations

from flatmin import catalogue
from flatmin.data.corruptions import registry as corruptions
from flatmin.data.sources import registry as sources
from flatmin.data.test_sets import registry as test_sets
from flatmin.errors import nearest
from flatmin.study import Vocabulary


def vocabulary() -> Vocabulary:
    """Return what sources, test sets, corruptions, ascents and models there are."""
    return Vocabulary(
        sources=sources.names(),
        test_sets=(test_sets.OWN, *test_sets.names()),
        corruptions=corruptions.names(),
        test_set_source=lambda name: "" if name == test_sets.OWN else test_sets.load(name).source,
        ascents=catalogue.ascents(),
        unknown_model=unknown_model,
        without_weights=without_weights,
    )


def unknown_model(name: str) -> str | None:
    """Return None for a model that can be built, else the nearest names.

    Asks timm, which takes seconds to import, only for a model that is not ours.
    """
    if name in catalogue.models():
        return None
    import timm

    if timm.is_model(name.split(".")[0]):
        return None
    return nearest(name, {*catalogue.models(), *timm.list_models()})


def without_weights(name: str) -> str | None:
    """Return None for a model whose weights timm publishes, else what its user can do."""
    file = "give the path of a file: `pretrained: data/own/weights.safetensors`"
    if name in catalogue.models():
        return f"nobody publishes weights under this name: {file}"
    import timm

    architecture = timm.models.split_model_name_tag(name)[0]
    published = [tagged for tagged in timm.list_pretrained(architecture) if timm.get_pretrained_cfg(tagged).hf_hub_id]
    if name in published or (name == architecture and published):
        return None
    return f"{nearest(name, published)}, or {file}" if published else file

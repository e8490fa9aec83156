"""Where the weights are that timm publishes under a tag."""

from __future__ import annotations

from ..core import hub
from ..core.cli import UserError


def locate(source: str) -> str:
    """The address in the hub, or the URL, of `timm:<name>.<tag>[@revision]`.

    Raises UserError, with the tags that there are, if timm publishes no such weights.
    """
    from . import architectures  # first: it makes timm importable

    timm = architectures.timm
    full_name, _, revision = source.removeprefix(hub.TIMM).partition("@")
    name, _, tag = full_name.partition(".")
    architectures.require_known(name)
    known = timm.list_models(f"{name}.*", pretrained=True)
    if f"{name}.{tag}" not in known:
        has = f"it publishes {', '.join(known)}" if known else f"it publishes none of {name}"
        raise UserError(f"{source}: names no weights that timm {timm.__version__} publishes; {has}")
    config = timm.models.get_pretrained_cfg(full_name, allow_unregistered=False)
    if config.custom_load == "hf" or (config.custom_load and not config.hf_hub_id):
        raise UserError(f"{source}: is published in a format that is not PyTorch's; choose another tag")
    if config.hf_hub_id:
        repository, _, own_revision = config.hf_hub_id.partition("@")
        file = f"/{config.hf_hub_filename}" if config.hf_hub_filename else ""
        revision = revision or own_revision
        return f"{hub.PREFIX}{repository}{file}{f'@{revision}' if revision else ''}"
    if revision:
        raise UserError(f"{source}: is published at a URL, which has no revisions; leave @{revision} out")
    if isinstance(config.url, str) and config.url:
        return config.url
    raise UserError(f"{source}: timm {timm.__version__} does not say where these weights are; choose another tag")

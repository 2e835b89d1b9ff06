"""The nets of the table, in the order in which they are printed."""

from __future__ import annotations

from balance import attention, embeddings, images
from balance.net import Net

__all__ = ["NETS"]

NETS: tuple[Net, ...] = (*images.NETS, *attention.NETS, *embeddings.NETS)

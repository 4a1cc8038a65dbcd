"""The selective scan, the recurrence inside every Mamba mixer, and the paths it runs along.

The public names are loaded on first use, so that reading a configuration does not load torch.
"""

from typing import TYPE_CHECKING

from mno.core.lazy import loaded_on_use

if TYPE_CHECKING:
    from mno.scan.interface import scan_step as scan_step
    from mno.scan.interface import selective_scan as selective_scan

__getattr__ = loaded_on_use(
    __name__, {"scan_step": "mno.scan.interface", "selective_scan": "mno.scan.interface"}
)

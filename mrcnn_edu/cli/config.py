"""`mrcnn-edu config`: print a model's configuration, or in what two differ."""

import dataclasses
from dataclasses import dataclass

import tyro
from rich.console import Console
from rich.table import Table

from mrcnn_edu.config import ModelConfig, difference, to_json
from mrcnn_edu.presets import PRESETS, Dialect, preset


@dataclass
class Config:
    """Print a model's configuration, or in what two differ.

    For example: config r50_fpn --against r50_c4, or
    config r50_fpn --dialect torchvision --against-dialect detectron2.
    """

    name: tyro.conf.Positional[str | None] = None
    """A preset. Without one, they are listed."""
    dialect: Dialect | None = None
    """Whose constants: torchvision, detectron2 or the paper's."""
    against: str | None = None
    """Another preset: print the fields that differ only."""
    against_dialect: Dialect | None = None
    """The dialect of the other; alone, it compares two dialects of one preset."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        """Run the command."""
        console = Console(soft_wrap=True)
        if self.name is None:
            for name, config in PRESETS.items():
                mask = "" if config.mask_head == "none" else f", {config.mask_head} masks"
                joints = f", {config.keypoints} keypoints" if config.keypoints else ""
                console.print(f"{name:18} {config.backbone}, {config.neck}{mask}{joints}")
            return
        config = preset(self.name, self.dialect)
        if self.against is None and self.against_dialect is None:
            if self.json:
                print(to_json(config))
            else:
                console.print(_one(config, _title(self.name, self.dialect)))
            return
        name = self.against or self.name
        other = preset(name, self.against_dialect)
        titles = [_title(self.name, self.dialect), _title(name, self.against_dialect)]
        changed = difference(config, other)
        if not changed:
            console.print(f"{titles[0]} and {titles[1]} are the same.")
        elif self.json:
            console.print_json(data={k: list(pair) for k, pair in changed.items()})
        else:
            console.print(_table([*titles], [(k, *pair) for k, pair in changed.items()]))


def _title(name: str, dialect: str | None) -> str:
    return f"{name} ({dialect})" if dialect else name


def _one(config: ModelConfig, title: str) -> Table:
    return _table([title], list(dataclasses.asdict(config).items()))


def _table(columns: list[str], rows: list[tuple]) -> Table:
    table = Table("field", *columns, title_justify="left")
    for name, *values in rows:
        table.add_row(name, *(_text(v) for v in values))
    return table


def _text(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(_text(v) for v in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)

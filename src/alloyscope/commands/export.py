"""Export released images to HDF5, PNG or TIFF.

Reads hrtem/ of a results folder. Writes either one HDF5 file with the arrays, every parameter and the attributes that
HyperSpy reads; or one PNG or TIFF file per image, named by the image's id, which also stores pixel size and parameters.
Images of failed particles are left out.
"""

import argparse
from pathlib import Path
from typing import Literal, assert_never

import pandas as pd

from alloyscope.campaign.stages import STAGES
from alloyscope.errors import StoreError
from alloyscope.progress import progress
from alloyscope.sections import compact
from alloyscope.store.atomic import read_json
from alloyscope.store.exports import write_hdf5, write_png, write_tiff
from alloyscope.store.images import CLEAN, COUNTS, WAVE, Stack
from alloyscope.store.tables import read_table

Form = Literal["hdf5", "png", "tiff"]


def run(
    *, folder: Path, to: Form, out: Path, images: slice = slice(None), array: str = COUNTS, bits: int = 16
) -> list[Path]:
    """Export images.

    Args:
        folder: Results folder of a campaign.
        to: Format of the files.
        out: Folder to write to.
        images: Range of rows of images.parquet; rows of failed particles count, but are not exported.
        array: `counts` or `clean`, for PNG and TIFF.
        bits: Bits per pixel of a PNG.

    Returns:
        Paths of the files.

    Raises:
        StoreError: the folder holds no released images, no image is in the range, a shard is damaged, or a file cannot
            be written.
    """
    proof, (index,) = folder / STAGES["dataset"].proof, STAGES["dataset"].beside
    if not proof.exists():
        raise StoreError(f"{folder}: no released images, {proof} is missing; run snakemake first")
    place, account, table = proof.parent, read_json(proof), read_table(folder / index)
    chosen = table.iloc[images]
    chosen = chosen[chosen["valid"].astype(bool)].reset_index(drop=True)
    if chosen.empty:
        raise StoreError(f"{folder}: no image of a valid particle in this range; the rows are 0 to {len(table) - 1}")
    if to == "hdf5":
        names = (CLEAN, COUNTS, WAVE) if account.get("wave_grid") else (CLEAN, COUNTS)
        stacks = {name: Stack.open(place, name) for name in names}
        target = out / f"{folder.resolve().name}.hdf5"
        kept = ("digest", "pixel_size_A", "gain", "offset")
        attributes = {name: account[name] for name in kept if name in account}
        if "camera" in account:
            attributes["camera"] = compact(account["camera"])
        write_hdf5(target, stacks, chosen, attributes)
        return [target]
    return pictures(Stack.open(place, array), chosen, to, out, bits)


def pictures(stack: Stack, table: pd.DataFrame, to: Literal["png", "tiff"], out: Path, bits: int) -> list[Path]:
    """Write one file per image; return their paths."""
    pixel_size_A = stack.array.attrs["pixel_size_A"]
    written = []
    for record in progress(table.to_dict("records"), len(table), "images"):
        row = {str(name): value for name, value in record.items()}
        image = stack[int(row["image"])]
        path = out / f"{row['image_id']}-{stack.name}.{to}"
        match to:
            case "png":
                write_png(path, image, bits, pixel_size_A, row)
            case "tiff":
                write_tiff(path, image, pixel_size_A, row)
            case _:
                assert_never(to)
        written.append(path)
    return written


def span(text: str) -> slice:
    """Parse `a:b` as a range of rows; either end may be left out."""
    low, colon, high = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return slice(int(low) if low else None, int(high) if high else None)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a range of rows, a:b; got {text!r}") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="results folder of a campaign, e.g. results/demo")
    parser.add_argument("--to", choices=("hdf5", "png", "tiff"), required=True, help="format of the files")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--images", type=span, default=argparse.SUPPRESS, metavar="A:B", help="rows (default: all)")
    parser.add_argument(
        "--array", choices=(COUNTS, CLEAN), default=argparse.SUPPRESS, help="array for PNG and TIFF (default: counts)"
    )
    parser.add_argument(
        "--bits", type=int, choices=(8, 16), default=argparse.SUPPRESS, help="bits per pixel of a PNG (default: 16)"
    )


def main(arguments: argparse.Namespace) -> None:
    written = run(**vars(arguments))
    print(f"{len(written)} file{'s' if len(written) > 1 else ''} in {arguments.out}")

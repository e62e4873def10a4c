"""Tables: Parquet with declared columns, and text tables of other programs."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from alloyscope.errors import ContractError, StoreError
from alloyscope.store.atomic import writing

# pandas dtypes; "Int64", "boolean" and "string" may hold missing values
Columns = Mapping[str, str]


def write_table(path: Path, table: pd.DataFrame, columns: Columns) -> None:
    """Write a table in the declared column order and types.

    Raises:
        ContractError: columns are missing or undeclared.
        StoreError: the file cannot be written.
    """
    if set(table.columns) != set(columns):
        missing, extra = set(columns) - set(table.columns), set(table.columns) - set(columns)
        raise ContractError(f"{path.name}: missing columns {sorted(missing)}, undeclared {sorted(extra)}")
    ordered = table[list(columns)].astype(dict(columns))
    with writing(path) as aside:
        ordered.to_parquet(aside, index=False)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a Parquet table, or the named columns of it.

    Raises:
        StoreError: the file is missing or damaged, or lacks one of the columns.
    """
    try:
        table = pd.read_parquet(path, columns=None if columns is None else list(columns))
    except FileNotFoundError:
        raise StoreError(f"{path}: missing") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: damaged or not Parquet ({error}); delete it and run snakemake again") from None
    # After a table of a million rows, Arrow would keep 350 MB for its next table.
    pa.default_memory_pool().release_unused()
    return table


def read_csv(path: Path, separator: str = ",", quoted: bool = True) -> pd.DataFrame:
    """Read a text table; "-" and "NA" are missing values; unless `quoted`, quotes are ordinary characters.

    Raises:
        StoreError: the file is missing, empty or damaged.
    """
    try:
        return pd.read_csv(
            path, sep=separator, na_values=["-", "NA"], quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
        )
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise StoreError(f"{path}: not a table ({error}); delete it and run snakemake again") from None

"""One rival's whole pipeline, CSV → Parquet with zstd level 1, as a process of its own.

    python bench/rivals.py polars|pyarrow|duckdb|pandas IN.csv OUT.parquet

Each is tuned: the types are given, all threads are on, dictionaries (which columns of grey values do not need) are off
where that can be said, and pyarrow's block size is the best of those tried (1, 4, 16 MiB).
"""

import sys

from digitrec.contract import KAGGLE_PIXELS, LABEL_COLUMN

NAMES = [LABEL_COLUMN, *KAGGLE_PIXELS]


def run_polars(source: str, target: str) -> None:
    import polars

    schema = dict.fromkeys(NAMES, polars.UInt8)
    polars.scan_csv(source, schema=schema).sink_parquet(target, compression="zstd", compression_level=1)


def run_pyarrow(source: str, target: str) -> None:
    import pyarrow
    from pyarrow import csv, parquet

    types = dict.fromkeys(NAMES, pyarrow.uint8())
    table = csv.read_csv(
        source, csv.ReadOptions(block_size=4 << 20), convert_options=csv.ConvertOptions(column_types=types)
    )
    parquet.write_table(
        table, target, compression="zstd", compression_level=1, use_dictionary=False, write_statistics=False
    )


def run_duckdb(source: str, target: str) -> None:
    import duckdb

    types = ", ".join(f"'{name}': 'UTINYINT'" for name in NAMES)
    read = f"read_csv('{source}', header=true, auto_detect=false, columns={{{types}}})"
    duckdb.sql("SET preserve_insertion_order=true")
    duckdb.sql(f"COPY (FROM {read}) TO '{target}' (FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)")


def run_pandas(source: str, target: str) -> None:
    import pandas

    frame = pandas.read_csv(source, dtype=dict.fromkeys(NAMES, "uint8"))
    frame.to_parquet(target, compression="zstd", compression_level=1, index=False)


RIVALS = {"polars": run_polars, "pyarrow": run_pyarrow, "duckdb": run_duckdb, "pandas": run_pandas}

if __name__ == "__main__":
    RIVALS[sys.argv[1]](*sys.argv[2:])

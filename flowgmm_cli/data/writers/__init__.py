"""Writers of tables: csv, tsv, parquet, jsonl and npz files, or standard output."""

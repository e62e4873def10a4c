# in:  the manifests of the imaging chunks, all or the first `dataset.min_chunks`; structures/structures.parquet;
#      hrtem/gates.json
# out: hrtem/images.parquet    one row per image: parameters, labels, split
#      hrtem/dataset.json      account of the released set, written last
#      hrtem/images.zarr       metadata of the shared arrays
#      hrtem/ro-crate-metadata.json


rule dataset:
    input:
        manifests("hrtem", chunks.released_chunks(CAMPAIGN)),
        structures=rules.structures.output.table,
        gates=rules.gates.output.gates,
    output:
        dataset=f"{RESULTS}/hrtem/dataset.json",
        images=f"{RESULTS}/hrtem/images.parquet",
    log:
        f"{RESULTS}/logs/dataset/dataset.log",
    benchmark:
        f"{RESULTS}/benchmarks/dataset/dataset.tsv"
    priority: 1  # before chunks that the image set does not wait for (dataset.min_chunks)
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        **made_from("dataset"),
        folder=lambda wildcards, output: Path(output.dataset).parent,
        chunks=len(chunks.released_chunks(CAMPAIGN)),
        capacity=chunks.imaging_capacity(CAMPAIGN),
    shell:
        """
        python -m alloyscope dataset \
            --images {params.folder:q} \
            --chunks {params.chunks} \
            --capacity {params.capacity} \
            --structures {input.structures:q} \
            --imaging {params.imaging:q} \
            --detector {params.detector:q} \
            --config {params.config:q} \
            --out {output.dataset:q} \
            2>>{log:q}
        """

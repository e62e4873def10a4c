# in:  the manifests of the described chunks, all or the first `dataset.min_chunks`
# out: structures/structures.parquet    labels and descriptors, one row per particle


rule structures:
    input:
        manifests("describe", chunks.released_chunks(CAMPAIGN)),
    output:
        table=report(
            f"{RESULTS}/structures/structures.parquet",
            caption="../report/structures.rst",
            category="Structures",
        ),
    log:
        f"{RESULTS}/logs/structures/structures.log",
    benchmark:
        f"{RESULTS}/benchmarks/structures/structures.tsv"
    priority: 1  # before chunks that the image set does not wait for (dataset.min_chunks)
    conda:
        ENVIRONMENT
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        **made_from("structures"),
        folder=lambda wildcards, input: Path(input[0]).parent,
        chunks=len(chunks.released_chunks(CAMPAIGN)),
        capacity=chunks.imaging_capacity(CAMPAIGN),
    shell:
        """
        python -m alloyscope structures \
            --descriptors {params.folder:q} \
            --chunks {params.chunks} \
            --capacity {params.capacity} \
            --seed {params.seed} \
            --particles {params.particles:q} \
            --splits {params.splits:q} \
            --labels {params.labels:q} \
            --out {output.table:q} \
            2>>{log:q}
        """

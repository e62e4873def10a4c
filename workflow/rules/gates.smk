# in:  the manifests of the imaging chunks that the image set waits for, with the tables and shards beside them;
#      structures/structures.parquet; the structures of a sample of images; film/carbon.extxyz when images show a film
# out: hrtem/gates.json    every gate with its value and bounds; written only if all have passed


rule gates:
    input:
        manifests("hrtem", chunks.released_chunks(CAMPAIGN)),
        labels=rules.structures.output.table,
        film=FILM,
    output:
        gates=f"{RESULTS}/hrtem/gates.json",
    log:
        f"{RESULTS}/logs/gates/gates.log",
    benchmark:
        f"{RESULTS}/benchmarks/gates/gates.tsv"
    priority: 1  # before chunks that the image set does not wait for (dataset.min_chunks)
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        **made_from("gates"),
        images=lambda wildcards, output: Path(output.gates).parent,
        structures=lambda wildcards, input: Path(input.labels).parent,
        chunks=len(chunks.released_chunks(CAMPAIGN)),
        capacity=chunks.imaging_capacity(CAMPAIGN),
        asked=f"sample {CAMPAIGN.dataset.gated_images}",  # Snakemake compares sets of values: 4 may be there already
        md_per_chunk=CAMPAIGN.md.particles_per_chunk,
    shell:
        """
        python -m alloyscope gates \
            --images {params.images:q} \
            --structures {params.structures:q} \
            --labels {input.labels:q} \
            --chunks {params.chunks} \
            --capacity {params.capacity} \
            --md-capacity {params.md_per_chunk} \
            --sample {params.sample} \
            --seed {params.seed} \
            --imaging {params.imaging:q} \
            --detector {params.detector:q} \
            --film {input.film:q} \
            --out {output.gates:q} \
            2>>{log:q}
        """

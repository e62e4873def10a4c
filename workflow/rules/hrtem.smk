# in:  the manifests of the md chunks that this imaging chunk covers; sections `imaging`, `optics`, `detector`;
#      film/carbon.extxyz when images show a film
# out: hrtem/chunk-000042.json       manifest, written last
#      hrtem/chunk-000042.parquet    one row per image: every drawn parameter
#      hrtem/images.zarr             this chunk's shard of `clean`, `counts` and, with imaging.store_waves, `wave`


rule hrtem:
    input:
        lambda wildcards: manifests(SOURCE, chunks.md_chunks_of(int(wildcards.chunk), CAMPAIGN)),
        film=FILM,
    output:
        manifest=f"{RESULTS}/hrtem/chunk-{{chunk}}.json",
    log:
        f"{RESULTS}/logs/hrtem/chunk-{{chunk}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/hrtem/chunk-{{chunk}}.tsv"
    conda:
        ENVIRONMENT
    threads: 1
    resources:
        mem_mb=growing(costs.imaging_memory_MB(CAMPAIGN)),
        runtime=growing(costs.job_minutes("hrtem", CAMPAIGN)),
        device=CAMPAIGN.device,  # resources, because Snakemake does not compare resources
        checked_waves=CAMPAIGN.checked_waves,
    params:
        **made_from("hrtem"),
        md_chunks=lambda wildcards: list(chunks.md_chunks_of(int(wildcards.chunk), CAMPAIGN)),
        structures=f"{RESULTS}/structures",
        capacity=chunks.imaging_capacity(CAMPAIGN),
    shell:
        """
        python -m alloyscope hrtem \
            --chunk {wildcards.chunk} \
            --md-chunks {params.md_chunks} \
            --structures {params.structures:q} \
            --capacity {params.capacity} \
            --seed {params.seed} \
            --imaging {params.imaging:q} \
            --optics {params.optics:q} \
            --detector {params.detector:q} \
            --film {input.film:q} \
            --device {resources.device} \
            --checked-waves {resources.checked_waves} \
            --manifest {output.manifest:q} \
            2>>{log:q}
        """
